"""What a command puts into the environment before JAX is imported: the cache of compiled programs, flags for GPUs,
huge pages.

What the user has set there already stays as it is. A library call (a notebook's) sets nothing.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import signal
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

from jaxcnn.errors import UserError

CACHE_BYTES = 2 * 2**30
"""What the cache may grow to; at a command's start the oldest entries are dropped until it is less."""

COMPILED_SECONDS = "0.2"
"""Programs that took longer to compile are kept: those of a run, not the hundreds of single operations."""

GPU_FLAGS = {
    # collectives and copies run beside the computation that does not need them
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    # matrix products (1×1 convolutions are such) with what is around them may be cuDNN's, where autotuning finds that faster
    "xla_gpu_cudnn_gemm_fusion_level": "2",
}
HUGE_PAGES = "glibc.malloc.hugetlb=1"
_BY_US = "JAXCNN_GAVE_HUGE_PAGES"

_FLAGS_KNOWN_TO = "0.10."  # the jaxlib that has been asked; one that does not know a flag ends the process


def prepare() -> None:
    """Sets the environment. Has to come before JAX is imported."""
    # Orbax and JAX log through absl and C++; what matters is said by our own log.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := _cache_folder()):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", COMPILED_SECONDS)
    # An entry that can't be read or written is compiled again, and no more need be said.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache", category=UserWarning)
    if _has_nvidia_gpu() and importlib.metadata.version("jaxlib").startswith(_FLAGS_KNOWN_TO):
        given = os.environ.get("XLA_FLAGS", "")
        new = [f"--{name}={value}" for name, value in GPU_FLAGS.items() if name not in given]
        os.environ["XLA_FLAGS"] = " ".join([*filter(None, [given]), *new])


def use_huge_pages() -> None:
    """Starts this process again, once, with an allocator that asks for huge pages, where that pays: on a CPU under Linux.

    XLA takes its temporary memory anew for each step, and page by page that costs a CPU up to half as much time as all else.
    glibc reads its settings as a process starts, hence again; the peak of memory stays what it was. JAXCNN_HUGE_PAGES=off
    leaves it as it is, and so does a GLIBC_TUNABLES that names glibc.malloc.hugetlb.

    Raises:
      UserError: JAXCNN_HUGE_PAGES is neither on nor off.
    """
    wanted = os.environ.get("JAXCNN_HUGE_PAGES", "on")
    if wanted not in ("on", "off"):
        raise UserError(f'JAXCNN_HUGE_PAGES: "{wanted}" is neither on nor off')
    given = os.environ.get("GLIBC_TUNABLES", "")
    if wanted == "off" or HUGE_PAGES.partition("=")[0] in given or _has_nvidia_gpu() or not _huge_pages_are_there():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join([*filter(None, [given]), HUGE_PAGES])
    os.environ[_BY_US] = "1"
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until `signals.catch_early`: Ctrl-C waits for it
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    finally:  # where it fails
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def without_our_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment as it was before `use_huge_pages`, for another program that shall run as its users start it."""
    original = dict(environment)
    if original.pop(_BY_US, None) and (given := original.pop("GLIBC_TUNABLES").removesuffix(HUGE_PAGES).removesuffix(":")):
        original["GLIBC_TUNABLES"] = given
    return original


def _huge_pages_are_there() -> bool:
    """Whether glibc can ask for them (2.35 and newer), and Linux gives them to who asks."""
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    try:
        return "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()  # [always] needs no asking
    except OSError:
        return False


def _cache_folder() -> Path | None:
    """A folder that can be written to, of this kind of processor alone; None where there is none."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcnn" / "xla"
        folder = root / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # permission bits do not tell of a read-only file system
        _drop_oldest(root)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    return folder


def _processor() -> str:
    """Names what compiled programs depend on: a home folder may be shared by machines that lack each other's instructions."""
    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256((platform.processor() + flags).encode()).hexdigest()[:8]}"


def _drop_oldest(root: Path) -> None:
    files = []
    for file in root.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be dropping it
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= CACHE_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= size


def _has_nvidia_gpu() -> bool:
    """Whether JAX may find one. Asking JAX itself would start it."""
    return Path("/proc/driver/nvidia/version").exists() and os.environ.get("JAX_PLATFORMS", "cuda") != "cpu"

"""Environment variables that a command sets before JAX is imported: compilation cache, XLA flags for GPUs, huge pages.

Variables that the user has set are kept. Calls of the library, for example from a notebook, set nothing.
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
"""Maximum size of the compilation cache. When a command starts, the oldest entries beyond it are deleted."""

COMPILED_SECONDS = "0.2"
"""Only programs that took longer to compile are cached: those of a run, but not the hundreds of single operations."""

GPU_FLAGS = {
    # overlap collectives and copies with computation
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    # let autotuning choose cuDNN for matrix products (1×1 convolutions too) fused with adjacent operations
    "xla_gpu_cudnn_gemm_fusion_level": "2",
}
HUGE_PAGES = "glibc.malloc.hugetlb=1"
_SET_BY_US = "JAXCNN_GAVE_HUGE_PAGES"

_TESTED_JAXLIB = "0.10."  # the version that supports GPU_FLAGS; an unknown flag would end the process


def prepare() -> None:
    """Sets the environment variables. Must be called before JAX is imported."""
    # Orbax and JAX log through absl and C++; jaxcnn reports what matters itself.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := _cache_folder()):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", COMPILED_SECONDS)
    # A program whose cache entry cannot be read or written is compiled again, so a warning is not needed.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache", category=UserWarning)
    if _has_nvidia_gpu() and importlib.metadata.version("jaxlib").startswith(_TESTED_JAXLIB):
        given = os.environ.get("XLA_FLAGS", "")
        new = [f"--{name}={value}" for name, value in GPU_FLAGS.items() if name not in given]
        os.environ["XLA_FLAGS"] = " ".join([*filter(None, [given]), *new])


def use_huge_pages() -> None:
    """Restarts this process once with malloc using huge pages, on Linux without a GPU.

    XLA allocates its temporary memory anew for each step. With small pages, page faults can add up to half of the remaining
    time of a step. glibc reads its settings only when a process starts. Peak memory does not change. Nothing is done if
    JAXCNN_HUGE_PAGES=off is set or if GLIBC_TUNABLES contains glibc.malloc.hugetlb.

    Raises:
      UserError: if JAXCNN_HUGE_PAGES is neither on nor off.
    """
    choice = os.environ.get("JAXCNN_HUGE_PAGES", "on")
    if choice not in ("on", "off"):
        raise UserError(f'JAXCNN_HUGE_PAGES: expected on or off, got "{choice}"')
    given = os.environ.get("GLIBC_TUNABLES", "")
    if choice == "off" or HUGE_PAGES.partition("=")[0] in given or _has_nvidia_gpu() or not _huge_pages_available():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join([*filter(None, [given]), HUGE_PAGES])
    os.environ[_SET_BY_US] = "1"
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is deferred until `signals.catch_early`
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    finally:  # only reached if exec fails
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def without_our_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns `environment` without the changes of `use_huge_pages`, to run another program as its users would."""
    original = dict(environment)
    if original.pop(_SET_BY_US, None) and (given := original.pop("GLIBC_TUNABLES").removesuffix(HUGE_PAGES).removesuffix(":")):
        original["GLIBC_TUNABLES"] = given
    return original


def _huge_pages_available() -> bool:
    """Returns whether glibc can request huge pages (version 2.35 or newer), and Linux provides them on request."""
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    try:
        return "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()  # [always] needs no request
    except OSError:
        return False


def _cache_folder() -> Path | None:
    """Returns a writable cache folder for this kind of processor, or None if none can be created."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcnn" / "xla"
        folder = root / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # permission bits do not show a read-only file system
        _drop_oldest(root)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    return folder


def _processor() -> str:
    """Returns an identifier of the instruction set, because machines with different processors may share a home folder."""
    flags = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()}-{hashlib.sha256((platform.processor() + flags).encode()).hexdigest()[:8]}"


def _drop_oldest(root: Path) -> None:
    files = []
    for file in root.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another process may have deleted it
            files.append((file.stat().st_mtime, file.stat().st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= CACHE_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= size


def _has_nvidia_gpu() -> bool:
    """Returns whether JAX may use an NVIDIA GPU, without initializing JAX."""
    return Path("/proc/driver/nvidia/version").exists() and os.environ.get("JAX_PLATFORMS", "cuda") != "cpu"

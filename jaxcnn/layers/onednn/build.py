"""Compiles the handler, once for each version of its source and of jaxlib, into the user's cache folder."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib

SOURCES = (
    "handler.c",
    "worker.h",
    "kernel_gradient.h",
    "depthwise_gradient.h",
    "norm.h",
    "layer_norm.h",
    "plans.h",
    "pool.h",
    "threefry.h",
    "api.h",
)
FLAGS = ("-O3", "-shared", "-fPIC", "-pthread", "-fopenmp-simd")


class Unavailable(Exception):
    """Why oneDNN's convolutions can't be used, in one line."""


def handler() -> Path:
    """The compiled handler, in the cache or, where that can't be written, in a folder of this process.

    A cached file that is damaged, which would crash the process or compute wrong numbers, is built again.

    Raises:
      Unavailable: there is no compiler, or it fails.
    """
    cached = cache_folder() / f"onednn-{_key()}.so"
    if _is_intact(cached):
        return cached
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not compiler:
        raise Unavailable("no C compiler (cc, gcc or clang) to build its handler with")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=cached.parent, suffix=".so", delete=False) as file:
            own = Path(file.name)
    except OSError:  # read-only
        return _compile(compiler, Path(tempfile.mkdtemp(prefix="jaxcnn-")) / "handler.so")
    try:
        _compile(compiler, own)
        _seal(own)
        os.replace(own, cached)  # at once, so that another process sees all of it or nothing
    except OSError:  # a full disk, or a folder where the file should be
        return _compile(compiler, Path(tempfile.mkdtemp(prefix="jaxcnn-")) / "handler.so")
    finally:
        with contextlib.suppress(FileNotFoundError):
            own.unlink()
    return cached


def _seal(path: Path) -> None:
    """Appends the SHA-256 of the library, which the loader does not read, and has the file written to the disk."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    with path.open("ab") as file:
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())


def _is_intact(path: Path) -> bool:
    """Whether the file is there and ends with its SHA-256."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    size = hashlib.sha256().digest_size
    return hashlib.sha256(content[:-size]).digest() == content[-size:]


def cache_folder() -> Path:
    """Where programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcnn"


def _compile(compiler: str, target: Path) -> Path:
    folder = Path(__file__).parent
    command = [compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(folder / SOURCES[0]), "-o", str(target), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{compiler} does not run: {error}") from error
    if done.returncode:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"{compiler} can't build its handler: {next((line for line in lines if 'error' in line), lines[0])}")
    return target


def _key() -> str:
    digest = hashlib.sha256(repr((jaxlib.__version__, FLAGS)).encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]

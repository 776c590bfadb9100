"""Compiles the handler once per version of its source and of jaxlib, into the user's cache folder."""

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
    """oneDNN cannot be used; the message states the reason in one line."""


def handler() -> Path:
    """Returns the compiled handler: a file in the cache folder, or in a temporary folder if the cache is not writable.

    A damaged file in the cache is replaced, because loading it could crash the process or compute wrong numbers.

    Raises:
      Unavailable: no C compiler is installed, or compilation fails.
    """
    cached = cache_folder() / f"onednn-{_key()}.so"
    if _is_intact(cached):
        return cached
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if not compiler:
        raise Unavailable("building the handler needs a C compiler (cc, gcc or clang), but none was found")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=cached.parent, suffix=".so", delete=False) as file:
            temporary = Path(file.name)
    except OSError:  # a read-only folder
        return _compile(compiler, Path(tempfile.mkdtemp(prefix="jaxcnn-")) / "handler.so")
    try:
        _compile(compiler, temporary)
        _append_checksum(temporary)
        os.replace(temporary, cached)  # atomic: another process sees the complete file or none
    except OSError:  # a full disk, or a folder with the name of the file
        return _compile(compiler, Path(tempfile.mkdtemp(prefix="jaxcnn-")) / "handler.so")
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return cached


def _append_checksum(path: Path) -> None:
    """Appends the SHA-256 of a shared library, which the dynamic loader ignores, and flushes the file to the disk."""
    digest = hashlib.sha256(path.read_bytes()).digest()
    with path.open("ab") as file:
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())


def _is_intact(path: Path) -> bool:
    """Returns whether the file exists and ends with the SHA-256 of the rest."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    size = hashlib.sha256().digest_size
    return hashlib.sha256(content[:-size]).digest() == content[-size:]


def cache_folder() -> Path:
    """Returns the folder for files that can be rebuilt: jaxcnn in $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxcnn"


def _compile(compiler: str, target: Path) -> Path:
    folder = Path(__file__).parent
    command = [compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(folder / SOURCES[0]), "-o", str(target), "-ldl"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"cannot run {compiler}: {error}") from error
    if process.returncode:
        lines = process.stderr.splitlines() or [f"exit code {process.returncode}"]
        raise Unavailable(f"{compiler} cannot build the handler: {next((line for line in lines if 'error' in line), lines[0])}")
    return target


def _key() -> str:
    """Returns a hash of all that the compiled handler depends on, 16 hexadecimal digits."""
    digest = hashlib.sha256(repr((jaxlib.__version__, FLAGS)).encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]

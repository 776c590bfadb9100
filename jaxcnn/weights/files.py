"""Reads and writes files of tensors. Files that this package writes contain metadata."""

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxcnn.errors import UserError
from jaxcnn.weights.hdf5 import read_hdf5
from jaxcnn.weights.pytorch import read_pytorch

METADATA = "jaxcnn.json"
"""Name of the JSON metadata: a metadata key in a .safetensors file, an array in a .npz file."""


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name, with their stored dtypes. Code in a file is never executed.

    The file name ends in .npz, .safetensors, .pth or .pt (PyTorch since 1.6), .weights.h5 or .h5 (Keras).
    Raises UserError if the file does not exist, has another format, or is damaged.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise UserError(f'{path}: unknown kind of weights file "{path.suffix}"; expected {", ".join(_READERS)}')
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with _as_user_error(path):
        return _READERS[path.suffix](path)


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """Returns the metadata that `write` stored in a .npz or .safetensors file, {} if it has none or the file does not exist.

    Raises UserError if the file or its metadata are damaged.
    """
    path, text = Path(path), ""
    if not path.is_file():
        return {}
    with _as_user_error(path):
        if path.suffix == ".npz":
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                text = str(archive[METADATA]) if METADATA in archive.files else ""
        elif path.suffix == ".safetensors":
            with safetensors.safe_open(path, "numpy") as tensors:
                text = (tensors.metadata() or {}).get(METADATA, "")
    return parse_json(path, text) if text else {}


def parse_json(path: Path, text: str) -> dict[str, Any]:
    """Returns the JSON object in `text`, the content of the file `path`. Raises UserError if it is not valid JSON."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: its metadata are damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: its metadata are damaged: expected a JSON object, got {type(found).__name__}")
    return found


def write(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes the tensors and, as JSON, `metadata` to a .npz or .safetensors file, atomically.

    Raises UserError if the name has another suffix or the file cannot be written.
    """
    path, text = Path(path), json.dumps(metadata, ensure_ascii=False, default=float)  # default: NumPy scalars
    if path.suffix == ".safetensors":
        # safetensors stores an array's memory in order and ignores its strides
        contents = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in tensors.items()}, {METADATA: text})
    elif path.suffix == ".npz":
        arrays: dict[str, Any] = {**tensors, METADATA: np.array(text)}
        np.savez(buffer := io.BytesIO(), **arrays)
        contents = buffer.getvalue()
    else:
        raise UserError(f'{path}: weights are written as .safetensors or .npz, not as "{path.suffix}"')
    write_bytes(path, contents)


def write_bytes(path: Path, contents: bytes) -> None:
    """Writes a file atomically. Raises UserError if it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(contents)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _as_user_error(path: Path) -> Iterator[None]:
    """Reports the exceptions of a reader as a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or not a {path.suffix} file of plain tensors ({error})") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:  # np.load leaves a damaged file open
        archive = np.load(file, allow_pickle=False)
        return {name: archive[name] for name in archive.files if name != METADATA}


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": _read_npz,
    ".safetensors": safetensors.numpy.load_file,
    ".pth": read_pytorch,
    ".pt": read_pytorch,
    ".h5": read_hdf5,
}

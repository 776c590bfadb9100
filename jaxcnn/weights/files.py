"""Files of tensors."""

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from jaxcnn.errors import UserError
from jaxcnn.weights.hdf5 import read_hdf5
from jaxcnn.weights.pytorch import read_pytorch


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file by name, as stored. Never executes what a file holds.

    Its name ends in .npz, .safetensors, .pth or .pt (PyTorch, since 1.6), .weights.h5 or .h5 (Keras).
    Raises UserError if there is no such file, it is of another kind, or it is damaged.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise UserError(f'{path}: unknown kind of weights file "{path.suffix}"; {", ".join(_READERS)}')
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return _READERS[path.suffix](path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or no {path.suffix} file of plain tensors ({error})") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:  # np.load leaves a damaged file open
        archive = np.load(file, allow_pickle=False)
        return {name: archive[name] for name in archive.files}


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npz": _read_npz,
    ".safetensors": safetensors.numpy.load_file,
    ".pth": read_pytorch,
    ".pt": read_pytorch,
    ".h5": read_hdf5,
}

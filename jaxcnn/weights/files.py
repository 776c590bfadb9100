"""Files of tensors."""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from jaxcnn.errors import UserError


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a .npz or .safetensors file by name, as stored. Never executes what a file holds.

    Raises UserError if there is no such file, it is of another kind, or it is damaged.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise UserError(f'{path}: unknown kind of weights file "{path.suffix}"; .npz or .safetensors')
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with path.open("rb") as file:  # np.load leaves a damaged file open
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: damaged, or no {path.suffix} file of plain tensors ({error})") from error

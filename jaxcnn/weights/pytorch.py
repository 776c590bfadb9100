"""Reads tensors from PyTorch files, without PyTorch and without executing code in the files.

Since PyTorch 1.6 such a file is a zip archive: NAME/data.pkl is a pickle of the saved object in which tensors refer to
storages, NAME/data/0, NAME/data/1 … are the bytes of the storages, NAME/byteorder is their byte order. A pickle can call any
function by name. The unpickler here resolves only the functions that describe a tensor, and replaces them by ones that record
their arguments.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxcnn.errors import UserError

WRAPPERS = ("state_dict", "model", "model_state_dict", "model_ema")
"""Keys under which a checkpoint may store its state dict. The first of these that exists is used."""

_LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # the first bytes of a file from before 1.6: a pickled magic number
_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool",
}  # fmt: skip


class _Storage(NamedTuple):
    dtype: str
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """Replaces the functions of torch._utils. It has no attributes that the pickle could change."""

    __slots__ = ()

    def __call__(self, data: Any, *arguments: Any) -> _Tensor:
        """Called with (storage, offset, size, strides, …) for a tensor, with (tensor, …) for a parameter."""
        return data if isinstance(data, _Tensor) else _Tensor(data, *arguments[:3])


class _CodeError(Exception):
    """The pickle refers to a function or class that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise _CodeError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length = pid
        if kind != "storage" or dtype not in _STORAGES.values():
            raise ValueError(f"not a storage: {pid}")
        return _Storage(dtype, key, length)


def read_pytorch(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict that torch.save wrote, or of one in a checkpoint (see WRAPPERS); bfloat16 as float32.

    Raises UserError if the file is from before PyTorch 1.6, is damaged, or its state dict has values that are not tensors.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(len(_LEGACY)) == _LEGACY:
                raise UserError(
                    f"{path}: has the format used before PyTorch 1.6; save it again with a newer version: "
                    "torch.save(torch.load(FILE), FILE)"
                )
        raise UserError(f"{path}: damaged, or not a PyTorch file")
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
            if len(pickles) != 1:
                raise UserError(f"{path}: a zip archive, but not a PyTorch file (it has no data.pkl)")
            folder = pickles[0].removesuffix("data.pkl")
            with archive.open(pickles[0]) as file:
                tensors = _state_dict(path, _Unpickler(file).load())
            big = f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") == b"big"
            storages = {
                storage: _read_storage(archive.read(f"{folder}data/{storage.key}"), storage, big)
                for storage in {tensor.storage for tensor in tensors.values()}
            }
        return {name: _array(storages[tensor.storage], tensor) for name, tensor in tensors.items()}
    except (UserError, OSError):
        raise
    except _CodeError as found:
        raise UserError(
            f"{path}: holds code ({found}), not only tensors; it was not run. torch.save(model.state_dict(), FILE) saves "
            "only the tensors"
        ) from found
    except Exception as error:  # a damaged or malicious pickle may raise anything
        raise UserError(f"{path}: damaged, or not a PyTorch file ({' '.join(str(error).split())[:200]})") from error


def _state_dict(path: Path, saved: Any) -> dict[str, _Tensor]:
    def refuse(why: str) -> NoReturn:
        raise UserError(f"{path}: not a state dict: {why}")

    while isinstance(saved, Mapping) and (inside := next((saved[w] for w in WRAPPERS if w in saved), None)) is not None:
        saved = inside
    if not isinstance(saved, Mapping):
        refuse(f"expected tensors by name, got a {type(saved).__name__.lstrip('_')}")
    wrong = [str(name) for name, value in saved.items() if not isinstance(value, _Tensor)]
    if wrong:
        refuse(f"it has values that are not tensors: {', '.join(wrong[:5])}{' …' if wrong[5:] else ''}")
    return {str(name): tensor for name, tensor in saved.items()}


def _read_storage(content: bytes, storage: _Storage, big: bool) -> np.ndarray:
    """Returns the storage as an array of shape (length,), bfloat16 as float32."""
    dtype = np.dtype("uint16" if storage.dtype == "bfloat16" else storage.dtype)
    if len(content) < storage.length * dtype.itemsize:
        raise ValueError(f"storage {storage.key} is truncated")
    numbers = np.frombuffer(content, dtype.newbyteorder(">" if big else "<"), storage.length).astype(dtype)
    if storage.dtype == "bfloat16":  # bfloat16 is the upper half of a float32
        return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return numbers


def _array(numbers: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Returns the tensor as a view of its storage. Raises ValueError if it is not within the storage."""
    size, strides, offset = tensor.size, tensor.strides, tensor.offset
    if len(size) != len(strides) or any(type(n) is not int or n < 0 for n in (*size, *strides, offset)):
        raise ValueError(f"not a tensor: {tensor[1:]}")
    last = offset + sum((n - 1) * stride for n, stride in zip(size, strides, strict=True))
    if math.prod(size) and last >= len(numbers):
        raise ValueError(f"a tensor of shape {size} exceeds its storage")
    if not math.prod(size):
        return np.zeros(size, numbers.dtype)
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, [stride * numbers.itemsize for stride in strides])

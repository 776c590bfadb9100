"""The files that data sets come in: idx, CIFAR's binary records, .npz. Each is read whole and checked.

Every function raises UserError, which names the file and what was expected, for one that is missing, empty or truncated.
"""

import gzip
import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcnn.data.decode import read_bytes
from jaxcnn.errors import UserError, did_you_mean, first_line
from jaxcnn.files import shipped


def existing(path: Path) -> Path:
    """`path` itself if it is there; an error with near names beside it if not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        beside = os.listdir(path.parent) if os.access(path.parent, os.R_OK) and path.parent.is_dir() else []
        raise UserError(f'data.root: no file or folder "{path}"{did_you_mean(path.name, beside)}') from error
    except OSError as error:
        raise UserError(f'data.root: "{path}" can\'t be read ({error.strerror})') from error
    return path


def stamp(paths: Sequence[str]) -> str:
    """Names (below the folder that holds all), sizes and dates of files, as a hash."""
    paths = [os.path.abspath(path) for path in paths]
    digest, above = hashlib.sha256(), len(os.path.commonpath(paths))
    for path in paths:
        try:
            found = os.stat(path)
            digest.update(f"{path[above:]} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except OSError:
            digest.update(f"{path[above:]} -\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A uint8 array of so many dimensions from an idx file, gzipped or not (its format: LeCun's MNIST page)."""
    plain = path.with_suffix("")
    path = plain if os.path.exists(plain) and not os.path.exists(path) else existing(path)
    raw = read_bytes(path)
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{path}: a damaged or truncated gzip file ({error})") from error
    header = 4 + 4 * dimensions
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(f"{path}: not an idx file of unsigned bytes with {dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", dimensions, offset=4))
    if len(raw) - header != math.prod(shape):
        raise UserError(
            f"{path}: holds {len(raw) - header:,} bytes of data, but {' × '.join(map(str, shape))} = "
            f"{math.prod(shape):,} were expected; the file is truncated or damaged"
        )
    if not math.prod(shape):
        raise UserError(f"{path}: is empty: it says {' × '.join(map(str, shape))}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_cifar(paths: Sequence[Path], label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 and labels (N, label_bytes) uint8 of the files of CIFAR's "binary version".

    A record is its label bytes (CIFAR-100: coarse, fine) and 3,072 pixels in the order channel, row, column.
    """
    record, parts = label_bytes + 3072, []
    for path in paths:
        raw = np.frombuffer(read_bytes(existing(path)), np.uint8)
        if raw.size == 0 or raw.size % record:
            raise UserError(
                f"{path}: {raw.size:,} bytes are not a whole number of records of {record:,}; it is empty or truncated"
            )
        parts.append(raw.reshape(-1, record))
    images, start = np.empty((sum(map(len, parts)), 32, 32, 3), np.uint8), 0
    for part in parts:
        channels = part[:, label_bytes:].reshape(-1, 3, 32, 32)
        for channel in range(3):  # five times as quick as a transposition of all three
            images[start : start + len(part), ..., channel] = channels[:, channel]
        start += len(part)
    return images, np.concatenate([part[:, :label_bytes] for part in parts])


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; pickled objects are refused."""
    if not existing(path).is_file():
        raise UserError(f'data.root: "{path}" is a folder; the source "arrays" takes an .npz file')
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError, RuntimeError) as error:
        # a TypeError is a single array in a file called .npz: it can't be opened as an archive; a RuntimeError, encryption
        fix = "; save names as text, array.astype(str)" if "Object arrays" in str(error) else ""
        raise UserError(f"{path}: not a whole .npz file of plain arrays ({first_line(error)}){fix}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty: class names."""
    try:
        return [line.strip() for line in read_bytes(existing(path)).decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error})") from error


def third_party_lines(name: str) -> list[str]:
    """The lines of a file in third_party/."""
    return read_lines(shipped("third_party") / name)

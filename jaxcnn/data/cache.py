"""A cache of decoded and resized images, in memory or in a memory-mapped file."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.decode import Center, View, look, scaled
from jaxcnn.data.sources import Derived, EncodedSource
from jaxcnn.errors import UserError

_FORMAT = "2"  # to be increased when the content of a record changes, or how images are decoded and resized


@dataclasses.dataclass(frozen=True, eq=False)
class Cached(Derived):
    """Images of `source`, an `EncodedSource`, of which the view `kept` is cached. Other views are resized from the cached view.

    The view `kept` itself is therefore exact; others are only as sharp as the cached view. Records are in memory, or, if
    `folder` is given, in a file of one record per image. Each has a checksum: a missing, truncated or damaged record is decoded
    again. Processes and runs share the file. Its name is a hash of everything that the records depend on, including the
    modification times and sizes of the image files.
    """

    kept: Center
    channels: int
    folder: Path | None = None

    def opened(self) -> "Cached":
        """Returns itself with the records allocated. Raises UserError if space is lacking or the folder is not writable."""
        assert len(self._records) == len(self.source)
        return self

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. A view is taken from the cached record; without a view, the full image is decoded."""
        if view is None:
            return self.source.read(index)
        record = self._records[index]
        if record["check"] != _check(record):
            record = self._decoded(index)
            self._write(index, record)
        if view == self.kept:
            return record["pixels"]
        height, width = record["size"].tolist()
        kept_height, kept_width = self.kept.size
        return look(record["pixels"], scaled(view(height, width), kept_height / height, kept_width / width))

    def _decoded(self, index: int) -> np.ndarray:
        record = np.zeros((), self._record)

        def view(height: int, width: int) -> Any:
            record["size"] = height, width
            return self.kept(height, width)

        record["pixels"] = self.source.read(index, view)
        record["check"] = _check(record)
        return record

    def _write(self, index: int, record: np.ndarray) -> None:
        if self.folder is None:
            self._records[index] = record
            return
        # A write through the memory map would kill the run if the disk is full. This one fails, and the image is decoded again.
        with contextlib.suppress(OSError), open(self._path, "r+b", buffering=0) as file:
            file.seek(index * self._record.itemsize)
            file.write(record.tobytes())

    @functools.cached_property
    def _record(self) -> np.dtype:
        shape = (*self.kept.size, self.channels)
        return np.dtype([("check", "<u4"), ("size", "<u4", (2,)), ("pixels", "u1", shape)])

    @functools.cached_property
    def _path(self) -> Path:
        assert self.folder is not None
        assert isinstance(self.source, EncodedSource)
        kept = repr(self.kept).replace("Center", "Centre")  # as in earlier versions, whose files remain valid
        depends_on = f"{_FORMAT} {kept} {self.channels} {self.source.window} {self.source.stamp()}"
        return self.folder / f"{hashlib.sha256(depends_on.encode()).hexdigest()[:24]}.pictures"

    @functools.cached_property
    def _records(self) -> np.ndarray:
        size = len(self.source) * self._record.itemsize
        if self.folder is None:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else size
            if size > memory:
                raise UserError(
                    f"data.cache: needs {_gib(size)}, but this machine has {_gib(memory)} of memory; set it to disk or off"
                )
            return np.zeros(len(self.source), self._record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                old_size = file.tell()
                if old_size < size and size - old_size > (free := shutil.disk_usage(self.folder).free):
                    raise UserError(f"data.cache: needs {_gib(size - old_size)} in {self.folder}, but {_gib(free)} are free")
                file.truncate(size)  # makes a sparse file, which occupies no space yet
        except OSError as error:
            raise UserError(
                f"data.cache: {self.folder} is not writable ({error.strerror}); set data.cache_folder to another folder"
            ) from error
        return np.memmap(self._path, self._record, "r", shape=(len(self.source),))

    def __getstate__(self) -> dict[str, Any]:
        # Without the records: an unpickled copy opens the file itself.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _check(record: np.ndarray) -> int:
    """Returns a checksum that is never 0, the checksum of a record that was not written yet."""
    return zlib.crc32(record["pixels"].data, zlib.crc32(record["size"].tobytes())) or 1


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"

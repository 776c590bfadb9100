"""Pictures kept once they have been decoded and resized: in memory, or in a memory-mapped file."""

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

_FORMAT = "2"  # another for each change of what a record holds, or of how pictures are decoded and resized


@dataclasses.dataclass(frozen=True, eq=False)
class Cached(Derived):
    """Pictures of `source`, kept as the view `kept` shows them; other views look at that instead of at the file.

    So the view `kept` itself is exact, and others are as sharp as what is kept. In the folder `folder` a file has a record
    an image, with a checksum over it: whatever was cut off, or damaged, is no record, and decoded again. Processes and
    runs share it. Its name is a hash of what the records depend on, dates and sizes of the pictures' files included.
    Without a folder the records are in memory.
    """

    kept: Center
    channels: int
    folder: Path | None = None

    def opened(self) -> "Cached":
        """Itself. Raises UserError where there is no room, or a folder that can't be written."""
        assert len(self._records) == len(self.source)
        return self

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """Returns what a view shows of the image as it is kept; without a view, reads all of the source's image."""
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
        # not through the map: on a full disk that would end the run; so the picture is decoded again each time
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
        kept = repr(self.kept).replace("Center", "Centre")  # as earlier versions called it: their files stay
        depends_on = f"{_FORMAT} {kept} {self.channels} {self.source.window} {self.source.stamp()}"
        return self.folder / f"{hashlib.sha256(depends_on.encode()).hexdigest()[:24]}.pictures"

    @functools.cached_property
    def _records(self) -> np.ndarray:
        size = len(self.source) * self._record.itemsize
        if self.folder is None:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else size
            if size > memory:
                raise UserError(f"data.cache: {_gib(size)} are wanted, but there are {_gib(memory)} of memory; disk, or off")
            return np.zeros(len(self.source), self._record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                there = file.tell()
                if there < size and size - there > (free := shutil.disk_usage(self.folder).free):
                    raise UserError(f"data.cache: {_gib(size - there)} are wanted in {self.folder}, but {_gib(free)} are free")
                file.truncate(size)  # a hole, which takes no room yet
        except OSError as error:
            raise UserError(
                f"data.cache: {self.folder} can't be written ({error.strerror}); data.cache_folder says where else"
            ) from error
        return np.memmap(self._path, self._record, "r", shape=(len(self.source),))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # a process opens the file anew


def _check(record: np.ndarray) -> int:
    """Never 0, which is what a record has that was not written yet."""
    return zlib.crc32(record["pixels"].data, zlib.crc32(record["size"].tobytes())) or 1


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"

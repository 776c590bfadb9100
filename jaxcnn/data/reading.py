"""What a batch holds, and how batches are read."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

import jax
import numpy as np

from jaxcnn.data.decode import View
from jaxcnn.data.order import Places
from jaxcnn.data.sources import Source
from jaxcnn.errors import UserError

Batch = dict[str, jax.Array]
"""K batches, B sharded over "data": image (K, B, H, W, C) uint8, mask (K, B) bool, and index and epoch (K, B) int32: which
example it is, and how often the data have been gone through before. Beside them one array per column of the source: label
(K, B) or (K, B, classes) int32; map (K, B, H, W) uint8; boxes (K, B, M, 4) float32 and classes (K, B, M) int32, see
`jaxcnn.data.fields`. Rows of padding hold no class in maps, and no box."""


class Reader(Protocol):
    """Gives batches, of which each is a function of its place alone."""

    def __call__(self, places: Places, start: int, batch_size: int, counts: Iterable[int], most: int = 0) -> Iterator[Batch]:
        """For each K of counts the next K batches of `batch_size` examples, from place `start` on.

        Arrays have room for `most` batches at least; what is in them after the first K is padding (mask False).
        """


@dataclasses.dataclass(frozen=True)
class Reading:
    """How examples are read; none of it changes a batch but `skip`.

    With `skip`, an image that can't be read does not stop the run: training takes another one of its class, evaluation
    leaves it out, and its name goes into `skipped`.
    """

    resident: str = "auto"
    threads: int = 4
    workers: int = 0
    skip: bool = False
    skipped: set[str] = dataclasses.field(default_factory=set)

    def skipped_line(self, when: str = "") -> str:
        """How many images were skipped, and the first names, in one line; "" where none was."""
        if not self.skipped:
            return ""
        first, count = sorted(self.skipped)[:3], len(self.skipped)
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        images = "image" if count == 1 else "images"
        return f"warning: {count:,} unreadable {images} skipped{when} (data.on_error=skip): {', '.join(first)}{more}"


def read_or_none(source: Source, index: int, view: View | None = None) -> np.ndarray | None:
    """Returns `source.read(index, view)`, or None if the image cannot be read."""
    try:
        return source.read(index, view)
    except UserError:
        return None


def none_readable_error(source: Source, index: int = 0, group: str = "data set") -> UserError:
    """Returns the error for a group ("data set" or "class") without a readable image; it states why image `index` is not."""
    try:
        source.read(index)
    except UserError as error:
        return UserError(f"{error}; nor could any other image of this {group} be read")
    return UserError(f"{source.name(index)}: none of the images of this {group} that were tried can be read")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An uint8 array that begins at a multiple of 64 bytes, which JAX on CPU takes over without copying it."""
    size = math.prod(shape)
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)

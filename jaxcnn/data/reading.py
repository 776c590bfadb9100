"""The contents of a batch, and how batches are read."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from typing import Protocol

import jax
import numpy as np

from jaxcnn.data.decode import View
from jaxcnn.data.order import ExampleOrder
from jaxcnn.data.sources import Source
from jaxcnn.errors import UserError

Batch = dict[str, jax.Array]
"""K batches of B examples, B sharded over "data".

- image (K, B, H, W, C) uint8 and mask (K, B) bool, False for rows of padding
- index and epoch (K, B) int32: the index of the example in its source, and the number of completed passes over the data
- an array for each column of the source: label (K, B) or (K, B, classes) int32; map (K, B, H, W) uint8;
  boxes (K, B, M, 4) float32 and classes (K, B, M) int32; see `jaxcnn.data.fields`, also for their padding
"""


class Reader(Protocol):
    """Reads batches, each of which is a function of its position in the order alone."""

    def __call__(
        self, order: ExampleOrder, start: int, batch_size: int, counts: Iterable[int], most: int = 0
    ) -> Iterator[Batch]:
        """Yields, for each K of `counts`, the next K batches of `batch_size` examples, from position `start` on.

        If K is less than `most`, the arrays are padded to `most` batches (mask False), so that all have one shape.
        """


@dataclasses.dataclass(frozen=True)
class Reading:
    """How examples are read. Only `skip` affects the content of batches.

    With `skip`, an image that cannot be read does not stop the run. Training replaces it by another image of its class,
    evaluation leaves it out, and its name is added to `skipped`.
    """

    resident: str = "auto"
    """whether the data are kept on the device: "on", "off", or "auto" by their size"""
    threads: int = 4
    workers: int = 0
    """number of processes that read; 0 reads in this process"""
    skip: bool = False
    skipped: set[str] = dataclasses.field(default_factory=set)

    def skipped_line(self, when: str = "") -> str:
        """Returns a warning with the number of skipped images and the names of the first three; "" if there are none."""
        if not self.skipped:
            return ""
        first, count = sorted(self.skipped)[:3], len(self.skipped)
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        images = "image" if count == 1 else "images"
        return f"warning: {count:,} unreadable {images} skipped{when} (data.on_error=skip): {', '.join(first)}{more}"


def read_example(source: Source, index: int, view: View | None = None) -> dict[str, np.ndarray]:
    """Returns {"image": `source.read(index, view)`}, and "map" if the data have maps. Raises UserError if one can't be read."""
    example = {"image": source.read(index, view)}
    if source.has_maps:
        example["map"] = source.read_map(index, view)
    return example


def read_or_none(source: Source, index: int, view: View | None = None) -> dict[str, np.ndarray] | None:
    """Returns `read_example`, or None if the image or its map cannot be read."""
    try:
        return read_example(source, index, view)
    except UserError:
        return None


def none_readable_error(source: Source, index: int = 0, group: str = "data set") -> UserError:
    """Returns the error for a "data set" or "class" without a readable image; it states why image `index` cannot be read."""
    try:
        read_example(source, index)
    except UserError as error:
        return UserError(f"{error}; nor could any other image of this {group} be read")
    return UserError(f"{source.name(index)}: can be read, but none of the images of this {group} that were tried could")


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an empty uint8 array that starts at a multiple of 64 bytes, which JAX on CPU uses without a copy."""
    size = math.prod(shape)
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].reshape(shape)

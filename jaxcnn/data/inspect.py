"""Inspects a data set: examples per class, image sizes, unreadable files, identical images within and between splits.

Two images are identical if their decoded pixels are equal: copies of a file, or an image saved again without loss.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np

from jaxcnn.data.sources import ArraySource, Dataset, EncodedSource, Resized, Source, innermost
from jaxcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Seen:
    """An inspected image. With a `problem` it could not be read; then `shape`, `stored` and `pixels` are empty."""

    part: str
    index: int
    name: str
    labels: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    """(H, W, C) as decoded, before cropping and resizing"""
    stored: str = ""
    """format and mode of the file as Pillow names them, such as "JPEG, RGB"; "" for images in memory"""
    pixels: bytes = b""
    """hash of shape and pixels"""
    problem: str = ""
    """why the image could not be read; "" if it could"""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The result of `inspect`."""

    sizes: dict[str, int]
    """number of examples per split"""
    seen: Sequence[Seen]
    """the images that were inspected, all or a sample"""

    @functools.cached_property
    def readable(self) -> list[Seen]:
        """The inspected images that could be read."""
        return [image for image in self.seen if not image.problem]

    @functools.cached_property
    def unreadable(self) -> list[Seen]:
        """The inspected images that could not be read; `problem` states why."""
        return [image for image in self.seen if image.problem]

    @functools.cached_property
    def identical(self) -> list[list[Seen]]:
        """Groups of two or more images with equal pixels, in the order of the data."""
        groups: dict[bytes, list[Seen]] = defaultdict(list)
        for image in self.readable:
            groups[image.pixels].append(image)
        return [group for group in groups.values() if len(group) > 1]

    @property
    def overlapping(self) -> list[list[Seen]]:
        """Groups of identical images that are in more than one split."""
        return [group for group in self.identical if len(_parts(group)) > 1]

    @property
    def within_a_part(self) -> list[list[Seen]]:
        """Groups of identical images that are in one split only."""
        return [group for group in self.identical if len(_parts(group)) == 1]

    def overlaps(self) -> dict[tuple[str, str], int]:
        """Returns {(split, other split): number of different images that are in both}, if it is not 0."""
        shared = {pair: sum(_parts(group).issuperset(pair) for group in self.identical) for pair in combinations(self.sizes, 2)}
        return {pair: count for pair, count in shared.items() if count}

    def distinct(self) -> dict[str, int]:
        """Returns the number of different images per split, among those that could be read."""
        return {part: len({image.pixels for image in self.readable if image.part == part}) for part in self.sizes}


def inspect(dataset: Dataset, *, sample: int = 20_000, threads: int = 16) -> Inspection:
    """Reads the images of all splits, and their maps, in full size, decoded to gray or RGB as in training.

    From files, at most `sample` images are read, evenly spaced over each split. Images in memory are all inspected.
    """
    parts = dataset.parts()
    sizes = {part: len(source) for part, source in parts.items()}
    in_memory = all(isinstance(innermost(source, 0)[0], ArraySource) for source in parts.values())
    share = 1.0 if in_memory else min(1.0, sample / sum(sizes.values()))
    seen: list[Seen] = []
    decoded: dict[bytes, tuple[tuple[int, ...], str, bytes]] = {}  # by the hash of the file
    # Pillow warns of large images, which `decode` refuses if necessary. Warning filters are global, so set outside the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, threads)) as pool:
        warnings.simplefilter("ignore")
        for part, source in parts.items():
            count = len(source) if share == 1 else max(1, int(len(source) * share))
            indices = np.linspace(0, len(source) - 1, count).astype(int).tolist()
            inspect_index = functools.partial(_inspect_image, part, source, decoded)
            seen += map(inspect_index, indices) if in_memory else pool.map(inspect_index, indices)
    return Inspection(sizes, seen)


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the number of examples per class, (num_classes,), of labels (N,), or (N, num_classes) zeros and ones."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)


def pixel_counts(source: Source, num_classes: int, sample: int = 0) -> np.ndarray:
    """Returns the number of pixels of each class in each map, (N, num_classes) int64; zeros for maps that cannot be read.

    If `sample` is not 0 and less than the number of maps, that many of them are read, evenly spaced.
    """
    number = min(len(source), sample or len(source))
    indices = np.linspace(0, len(source) - 1, number).astype(int).tolist()

    def count(index: int) -> np.ndarray:
        with contextlib.suppress(UserError):
            return np.bincount(source.read_map(index).ravel(), minlength=256)[:num_classes]
        return np.zeros(num_classes, np.int64)

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(count, indices)))


def labels_of(source: Source, index: int) -> list[int]:
    """Returns the classes of an example: one, several, or none without labels."""
    if source.labels is None:
        return []
    label = source.labels[index]
    return np.flatnonzero(label).tolist() if label.ndim else [int(label)]


def stored(source: Source) -> Source:
    """Returns the images of a split in their stored sizes, before `Resized`."""
    return source.source if isinstance(source, Resized) else source


def _inspect_image(part: str, source: Source, decoded: dict[bytes, tuple[tuple[int, ...], str, bytes]], index: int) -> Seen:
    name = source.name(index)
    labels = tuple(labels_of(source, index))
    try:
        inner, position = innermost(source, index)
        if inner.has_maps:
            inner.read_map(position)
        if not isinstance(inner, EncodedSource):
            image = inner.read(position)
            return Seen(part, index, name, labels, image.shape, "", _hash(image))
        encoded = inner.encoded(position)
        key = hashlib.sha256(encoded).digest()
        if key not in decoded:  # copies of a file are decoded once
            image = inner.read(position)
            decoded[key] = (image.shape, _format_and_mode(encoded), _hash(image))
        return Seen(part, index, name, labels, *decoded[key])
    except UserError as error:
        return Seen(part, index, name, labels, problem=str(error).removeprefix(f"{name}: "))


def _hash(image: np.ndarray) -> bytes:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.tobytes())
    return digest.digest()


def _format_and_mode(encoded: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return f"{image.format}, {image.mode}"
    except UnidentifiedImageError:
        return "TIFF"  # with samples that only OpenCV reads


def _parts(group: Sequence[Seen]) -> set[str]:
    return {image.part for image in group}

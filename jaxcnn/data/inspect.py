"""What is in a data set: how many of each class, sizes, files that can't be read, identical images within and between parts.

Two images are identical if their decoded pixels are: copies of a file, and a photo saved again without loss.
"""

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
    """One image that was looked at; with a `problem` it could not be read, and the fields after `name` say nothing."""

    part: str
    index: int
    name: str
    labels: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    """(H, W, C) as it is decoded, before it is cropped or resized"""
    stored: str = ""
    """"JPEG, RGB": format and mode of the file, in Pillow's words; "" in memory"""
    pixels: bytes = b""
    """a hash of shape and pixels"""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found; `seen` are the images that were looked at, of `sizes` examples a part."""

    sizes: dict[str, int]
    seen: Sequence[Seen]

    @functools.cached_property
    def readable(self) -> list[Seen]:
        """Those that could be read."""
        return [image for image in self.seen if not image.problem]

    @functools.cached_property
    def unreadable(self) -> list[Seen]:
        """Those that could not; `problem` says why."""
        return [image for image in self.seen if image.problem]

    @functools.cached_property
    def identical(self) -> list[list[Seen]]:
        """Groups of two or more images with the same pixels, in the order of the data."""
        groups: dict[bytes, list[Seen]] = defaultdict(list)
        for image in self.readable:
            groups[image.pixels].append(image)
        return [group for group in groups.values() if len(group) > 1]

    @property
    def overlapping(self) -> list[list[Seen]]:
        """Groups of which not all are in one part."""
        return [group for group in self.identical if len(_parts(group)) > 1]

    @property
    def within_a_part(self) -> list[list[Seen]]:
        """The other groups."""
        return [group for group in self.identical if len(_parts(group)) == 1]

    def overlaps(self) -> dict[tuple[str, str], int]:
        """How many different images each two parts share, for those that share any."""
        shared = {pair: sum(_parts(group).issuperset(pair) for group in self.identical) for pair in combinations(self.sizes, 2)}
        return {pair: count for pair, count in shared.items() if count}

    def distinct(self) -> dict[str, int]:
        """How many different images each part has among those that could be read."""
        return {part: len({image.pixels for image in self.readable if image.part == part}) for part in self.sizes}


def inspect(dataset: Dataset, *, sample: int = 20_000, threads: int = 16) -> Inspection:
    """Reads the images of all parts in full, decoded as the trainer decodes them (grey or RGB) but at their own size.

    At most `sample` images are read from files, evenly spread over each part; images in memory are all looked at.
    """
    parts = dataset.parts()
    sizes = {part: len(source) for part, source in parts.items()}
    in_memory = all(isinstance(innermost(source, 0)[0], ArraySource) for source in parts.values())
    share = 1.0 if in_memory else min(1.0, sample / sum(sizes.values()))
    seen: list[Seen] = []
    known: dict[bytes, tuple[tuple[int, ...], str, bytes]] = {}
    # Pillow warns of large pictures, which are decided about elsewhere; filters are global, so they are set outside.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, threads)) as pool:
        warnings.simplefilter("ignore")
        for part, source in parts.items():
            many = len(source) if share == 1 else max(1, int(len(source) * share))
            indices = np.linspace(0, len(source) - 1, many).astype(int).tolist()
            look = functools.partial(_look, part, source, known)
            seen += map(look, indices) if in_memory else pool.map(look, indices)
    return Inspection(sizes, seen)


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many examples have each class, (num_classes,)."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)


def labels_of(source: Source, index: int) -> list[int]:
    """The classes of one example's label: one, several, or none."""
    if source.labels is None:
        return []
    label = source.labels[index]
    return np.flatnonzero(label).tolist() if label.ndim else [int(label)]


def stored(source: Source) -> Source:
    """The images of a part as they are stored: not brought to one size."""
    return source.source if isinstance(source, Resized) else source


def _look(part: str, source: Source, known: dict[bytes, tuple[tuple[int, ...], str, bytes]], index: int) -> Seen:
    name = source.name(index)
    labels = tuple(labels_of(source, index))
    try:
        inner, place = innermost(source, index)
        if not isinstance(inner, EncodedSource):
            image = inner.read(place)
            return Seen(part, index, name, labels, image.shape, "", _hash(image))
        encoded = inner.encoded(place)
        key = hashlib.sha256(encoded).digest()
        if key not in known:  # a copy of a file need not be decoded once more
            image = inner.read(place)
            known[key] = (image.shape, _format_and_mode(encoded), _hash(image))
        return Seen(part, index, name, labels, *known[key])
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
        return "TIFF"  # of samples that OpenCV alone reads


def _parts(group: Sequence[Seen]) -> set[str]:
    return {image.part for image in group}

"""Where examples come from: random access by index, images as uint8."""

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from jaxcnn.data.decode import Center, RandomResizedCrop, View, decode, in_channels, look, read_bytes
from jaxcnn.data.fields import Field, fields_of
from jaxcnn.data.files import stamp
from jaxcnn.data.samples import IntensityWindow
from jaxcnn.data.sizes import ONE_SIZE, Sizes
from jaxcnn.errors import UserError, printable

PARTS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
         "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
"""What people call the parts of a data set -> what they are called here."""


class Source(abc.ABC):
    """Examples that are read by index: images, and arrays with one row per image (labels, maps, boxes).

    A subclass defines `labels` (or `columns`, and then `__len__` if it has no column), `image_shape` and `read`.
    """

    labels: np.ndarray | None
    """(N,) int32 classes, or (N, K) int32 of zeros and ones where an image may have several labels; None without labels."""

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """What a batch holds beside the image: an array (N, …) for each of its keys, see `jaxcnn.data.fields.Field`."""
        return {} if self.labels is None else {"label": self.labels}

    @property
    def fields(self) -> Mapping[str, Field]:
        """What each example has beside its image."""
        return fields_of(self.columns)

    def column(self, name: str) -> np.ndarray:
        """One of the columns, (N, …). Raises UserError where the data have none of that name."""
        if name == "label" and self.labels is not None:
            return self.labels
        if name not in (columns := self.columns):
            raise UserError(f'data: a "{name}" per image is needed, but these data have {", ".join(columns) or "none"}')
        return columns[name]

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The rows `indices` (n,) of all columns, (n, …) each."""
        return {name: column[indices] for name, column in self.columns.items()}

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C) of every image; None where their sizes differ."""

    @abc.abstractmethod
    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """Returns image `index`, or a view of it: a random crop in training, the center in evaluation.

        Args:
          index: 0 to len(self) - 1.
          view: (height, width) of the stored image -> the window of it that is returned, and the size to which that is
            resized. None returns the image of shape `image_shape`: all of it, or the center if the source is `Resized`.

        Returns:
          (H, W, C) uint8; with a view, (H, W) is the view's size. The caller does not write to the array.

        Raises:
          UserError: the image cannot be read; the message starts with its name.
        """

    def read_batch(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """Returns the images `read(index)` of n `indices` at once, (n, H, W, C) uint8, for a source that has them in memory.

        None if they must be read one at a time. Sources need not implement it.
        """
        return None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def name(self, index: int) -> str:
        """Returns what messages call image `index`: its path, if it is a file."""
        return f"image {index}"


@dataclasses.dataclass(frozen=True)
class ArraySource(Source):
    """Images (N, H, W, C) uint8 and labels in memory; with `channels`, grey is shown as RGB (3) or RGB as grey (1).

    `targets` are the columns beside the labels: "map", or "boxes" and "classes".
    """

    images: np.ndarray
    labels: np.ndarray | None
    channels: int = 0
    targets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Labels, if there are any, and targets."""
        return {**super().columns, **self.targets}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        _, height, width, channels = self.images.shape
        return height, width, self.channels or channels

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`."""
        return apply_view(in_channels(self.images[index], self.image_shape[2]), view)

    def read_batch(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """Returns images by a single indexing operation; None if `channels` differs from the channels in memory."""
        return self.images[indices] if self.channels in (0, self.images.shape[3]) else None


@dataclasses.dataclass(frozen=True)
class EncodedSource(Source):
    """Pictures, decoded each time that they are looked at; as grey ones where `channels` is 1, as RGB where it is 3.

    `window` is the intensity window of deep samples.
    """

    channels: int = dataclasses.field(default=3, kw_only=True)
    window: IntensityWindow = dataclasses.field(default=(), kw_only=True)

    @abc.abstractmethod
    def encoded(self, index: int) -> bytes:
        """Picture `index` as it is stored. Raises UserError, which names it, where it can't be read."""

    def beginning(self, index: int) -> bytes:
        """Returns the first bytes of `encoded`, enough for the header of most images; all of them by default."""
        return self.encoded(index)

    @abc.abstractmethod
    def stamp(self) -> str:
        """Returns a text that changes whenever the pixels of any image may have changed; data.cache relies on it."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """None: sizes differ."""
        return None

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. A JPEG is decoded at a reduced resolution if that suffices for the view."""
        return decode(self.encoded(index), self.name(index), self.channels, view, self.window)


@dataclasses.dataclass(frozen=True)
class FileSource(EncodedSource):
    """Picture files."""

    paths: np.ndarray
    labels: np.ndarray

    def encoded(self, index: int) -> bytes:
        """The file."""
        return read_bytes(str(self.paths[index]))

    def beginning(self, index: int) -> bytes:
        """64 KiB of the file, as EXIF data may come before a JPEG's frame header; b"" where it can't be read."""
        with contextlib.suppress(OSError), open(self.paths[index], "rb", buffering=0) as file:
            return file.read(2**16)
        return b""

    def stamp(self) -> str:
        """Paths below the folder that holds all, sizes and dates of the files."""
        return stamp([str(path) for path in self.paths])

    def name(self, index: int) -> str:
        """The path, printable."""
        return printable(str(self.paths[index]))


@dataclasses.dataclass(frozen=True)
class Derived(Source):
    """Another source seen in some way; as that one is where nothing else is said."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:  # type: ignore[override]
        """As the source has them."""
        return self.source.labels

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """As the source has them."""
        return self.source.columns

    @property
    def fields(self) -> Mapping[str, Field]:
        """As the source has them."""
        return self.source.fields

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """As the source has them."""
        return self.source.rows(indices)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """As the source has it."""
        return self.source.image_shape

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """As the source reads it."""
        return self.source.read(index, view)

    def name(self, index: int) -> str:
        """As the source names it."""
        return self.source.name(index)


@dataclasses.dataclass(frozen=True)
class Subset(Derived):
    """The examples of `source` at `indices`, in that order."""

    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:  # type: ignore[override]
        """Labels of the examples, as the source has them."""
        return None if self.source.labels is None else self.source.labels[self.indices]

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Those of the examples; a copy each time, as maps are large."""
        return self.source.rows(self.indices)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """As the source has them."""
        return self.source.rows(self.indices[indices])

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """As the source reads it."""
        return self.source.read(int(self.indices[index]), view)

    def read_batch(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """As the source reads them."""
        return self.source.read_batch(self.indices[indices])

    def name(self, index: int) -> str:
        """As the source names it."""
        return self.source.name(int(self.indices[index]))


@dataclasses.dataclass(frozen=True)
class Resized(Derived):
    """Images of any size, all brought to one: by their centre or, in training, by random crops.

    `crop` holds the ranges of a random crop's share of the area and of its width / height relative to the ratio of `shape`:
    1 distorts nothing; () for the centre in training too. `sizes` are the sizes of random crops, where they change.
    """

    shape: tuple[int, int, int]
    fit: str = "crop"
    ratio: float = 1.0
    interpolation: str = "area"
    crop: tuple[tuple[float, float], tuple[float, float]] | tuple[()] = ()
    seed: int = 0
    sizes: Sizes = ONE_SIZE

    def __post_init__(self) -> None:
        """Maps and boxes would have to be cut and resized by the window of each picture, which is not implemented."""
        if placed := [name for name in self.source.fields if name != "label"]:
            raise UserError(
                f"data: {' and '.join(placed)} can't be brought to one size with pictures; store images of one size"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.shape

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. Without a view, returns the center of the stored image in `shape`."""
        return self.source.read(index, view or Center(self.shape[:2], self.fit, self.ratio, self.interpolation))

    def random_crop(self, place: int) -> RandomResizedCrop:
        """Returns the view for position `place` of training, a function of (seed, place); its size is that of `sizes`."""
        assert self.crop
        height, width = self.sizes.at_place(place) or self.shape[:2]
        area, (low, high) = self.crop
        return RandomResizedCrop(
            (height, width), area, (low * (width / height), high * (width / height)), key=(self.seed, place)
        )


def apply_view(image: np.ndarray, view: View | None) -> np.ndarray:
    """Returns what a view shows of an image (H, W, C) uint8, (*size, C) uint8; without a view, the image itself."""
    return image if view is None else look(image, view(*image.shape[:2]))


def training_view(source: Source, place: int) -> RandomResizedCrop | None:
    """Returns the random crop that training sees at position `place`; None if it sees `source.read(index)` everywhere."""
    return source.random_crop(place) if isinstance(source, Resized) and source.crop else None


def innermost(source: Source, index: int) -> tuple[Source, int]:
    """The source that has the images of `source` as they are stored, and where in it the one at `index` is."""
    while isinstance(source, Derived):
        index = int(source.indices[index]) if isinstance(source, Subset) else index
        source = source.source
    return source, index


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three parts of a data set, which share no example. After `load`, only validation may be None.

    `groups` says for each training example what may not be torn apart by a split: a patient, a track of frames.
    `notes` are lines for the user: how the data were understood, and what was passed over.
    """

    train: Source
    validation: Source | None
    test: Source | None
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def parts(self) -> dict[str, Source]:
        """{"train": …, "validation": …, "test": …}, those that there are."""
        return {name: source for name in ("train", "validation", "test") if (source := getattr(self, name)) is not None}

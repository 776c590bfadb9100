"""Sources of examples: random access to images (uint8) and their labels by index."""

import abc
import contextlib
import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from jaxcnn.data.class_maps import Color, MapClasses, look_at_map
from jaxcnn.data.decode import Center, RandomResizedCrop, View, decode, image_format, in_channels, look, read_bytes
from jaxcnn.data.fields import Field, fields_of
from jaxcnn.data.files import stamp
from jaxcnn.data.samples import IntensityWindow
from jaxcnn.data.sizes import ONE_SIZE, Sizes
from jaxcnn.errors import UserError, printable

PARTS = {"train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
         "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
"""Common names of splits -> the names used in this package."""


class Source(abc.ABC):
    """Examples that are read by index: images, their class maps, and arrays with one row per image (labels, boxes).

    A subclass defines `labels` (or `columns`, and then `__len__` if it has no column), `image_shape` and `read`. If
    it reads full images, `apply_view` returns their views. Maps are a column, or `has_maps` and `read_map` are overridden.
    """

    labels: np.ndarray | None
    """(N,) int32 classes, or (N, K) int32 zeros and ones if an image may have several labels; None without labels."""

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The targets of all examples: {key of the batch: array (N, …)}; see `jaxcnn.data.fields.Field`."""
        return {} if self.labels is None else {"label": self.labels}

    @property
    def fields(self) -> Mapping[str, Field]:
        """The kinds and shapes of the targets of an example, by name."""
        fields = fields_of(self.columns)
        if self.has_maps and "map" not in fields:
            fields["map"] = Field("map", self.image_shape[:2] if self.image_shape else (), "uint8")
        return fields

    @property
    def has_maps(self) -> bool:
        """True if the examples have class maps."""
        return "map" in self.columns

    def column(self, name: str) -> np.ndarray:
        """Returns a column by its name, (N, …). Raises UserError if the data have no such column."""
        if name == "label" and self.labels is not None:
            return self.labels
        if name not in (columns := self.columns):
            raise UserError(
                f'data: a "{name}" per image is needed, but this data set has {", ".join(self.fields) or "no targets"}'
            )
        return columns[name]

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the rows `indices` (n,) of all columns, (n, …) each."""
        return {name: column[indices] for name, column in self.columns.items()}

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C) of every image; None if their sizes differ."""

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

    def read_map(self, index: int, view: View | None = None) -> np.ndarray:
        """Returns the class map of image `index`, or the view of it that `read` returns of the image.

        Returns:
          (H, W) uint8: the class of each pixel; VOID if it has none, or is outside the image.

        Raises:
          UserError: there are no maps, or the map cannot be read; the message starts with its name.
        """
        if not self.has_maps:
            self.column("map")
        return look_at_map(self.rows(np.array([index]))["map"][0], view)

    def read_batch(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """Returns the images `read(index)` of n `indices` at once, (n, H, W, C) uint8, for a source that has them in memory.

        None if they must be read one at a time. Sources need not implement it.
        """
        return None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def name(self, index: int) -> str:
        """Returns the name of image `index` in messages, such as the path of its file."""
        return f"image {index}"


@dataclasses.dataclass(frozen=True)
class ArraySource(Source):
    """Images (N, H, W, C) uint8 and labels in memory.

    `channels` converts gray images to RGB (3) or RGB images to gray (1); 0 leaves them as they are. `targets` are the columns
    other than the labels: "map", or "boxes" and "classes".
    """

    images: np.ndarray
    labels: np.ndarray | None
    channels: int = 0
    targets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Labels, if the data have labels, and `targets`."""
        return {**super().columns, **self.targets}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image, after conversion to `channels`."""
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
    """Encoded images (JPEG, PNG, …), decoded at each read: to gray if `channels` is 1, to RGB if it is 3.

    `window` is the range of intensities that is mapped to 0…255 in images with more than 8 bits per sample. `map_classes`
    decodes their encoded class maps; None if they have no maps.
    """

    channels: int = dataclasses.field(default=3, kw_only=True)
    window: IntensityWindow = dataclasses.field(default=(), kw_only=True)
    map_classes: MapClasses | None = dataclasses.field(default=None, kw_only=True)

    @abc.abstractmethod
    def encoded(self, index: int) -> bytes:
        """Returns the encoded bytes of image `index`. Raises UserError with its name if they cannot be read."""

    def encoded_map(self, index: int) -> tuple[str, bytes]:
        """Returns the name and the encoded bytes of the map of image `index`; overridden if the images have maps.

        Raises UserError with this name if the map cannot be read.
        """
        raise UserError(f"{self.name(index)}: has no map")

    def beginning(self, index: int) -> bytes:
        """Returns the first bytes of `encoded`, enough for the header of most images; all of them by default."""
        return self.encoded(index)

    def header(self, index: int) -> tuple[int, int, bool]:
        """Returns (height, width, whether it is gray) of the upright image `index`, from its header alone."""
        name = self.name(index)
        with contextlib.suppress(UserError):
            return image_format(self.beginning(index), name)
        return image_format(self.encoded(index), name)

    @abc.abstractmethod
    def stamp(self) -> str:
        """Returns a text that changes whenever the pixels of any image may have changed; data.cache relies on it."""

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """None, as the sizes of the images may differ."""
        return None

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. A JPEG is decoded at a reduced resolution if that suffices for the view."""
        return decode(self.encoded(index), self.name(index), self.channels, view, self.window)

    @property
    def has_maps(self) -> bool:
        """True if the images have maps."""
        return self.map_classes is not None

    def read_map(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read_map`. Raises UserError if the map has another size than its image."""
        if self.map_classes is None:
            return super().read_map(index, view)
        name, encoded = self.encoded_map(index)
        classes = self.map_classes.decode(encoded, name)
        height, width, _ = self.header(index)
        if classes.shape != (height, width):
            raise UserError(
                f"{name}: the map is {classes.shape[1]}×{classes.shape[0]} pixels in size, but its image {self.name(index)} is "
                f"{width}×{height}"
            )
        return look_at_map(classes, view)


@dataclasses.dataclass(frozen=True)
class FileSource(EncodedSource):
    """Images in files, one per path; `map_paths` (N,) are the files of their maps, if they have maps."""

    paths: np.ndarray
    labels: np.ndarray | None
    map_paths: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def encoded_map(self, index: int) -> tuple[str, bytes]:
        """Returns the path and the content of the map's file."""
        assert self.map_paths is not None, "the images have no maps"
        path = str(self.map_paths[index])
        return printable(path), read_bytes(path)

    def encoded(self, index: int) -> bytes:
        """Returns the content of the file."""
        return read_bytes(str(self.paths[index]))

    def beginning(self, index: int) -> bytes:
        """Returns the first 64 KiB, as EXIF data may precede a JPEG's frame header; b"" if the file cannot be read."""
        with contextlib.suppress(OSError), open(self.paths[index], "rb", buffering=0) as file:
            return file.read(2**16)
        return b""

    def stamp(self) -> str:
        """Returns a hash of the files' paths below their common folder, sizes and modification times."""
        return stamp([str(path) for path in self.paths])

    def name(self, index: int) -> str:
        """Returns the path, with unprintable characters escaped."""
        return printable(str(self.paths[index]))


@dataclasses.dataclass(frozen=True)
class Derived(Source):
    """A source based on another one. Unless overridden, all methods but `read_batch` return what `source` returns."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:  # type: ignore[override]
        """The labels of `source`."""
        return self.source.labels

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The columns of `source`."""
        return self.source.columns

    @property
    def has_maps(self) -> bool:
        """True if the examples of `source` have maps."""
        return self.source.has_maps

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns rows of the columns of `source`."""
        return self.source.rows(indices)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The image shape of `source`."""
        return self.source.image_shape

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`."""
        return self.source.read(index, view)

    def read_map(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read_map`."""
        return self.source.read_map(index, view)

    def name(self, index: int) -> str:
        """Returns the name that `source` gives the image."""
        return self.source.name(index)


@dataclasses.dataclass(frozen=True)
class Subset(Derived):
    """The examples of `source` at `indices` (N,), in that order."""

    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:  # type: ignore[override]
        """The labels at `indices`."""
        return None if self.source.labels is None else self.source.labels[self.indices]

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The rows `indices` of the columns of `source`; copied at each call, not kept, as maps are large."""
        return self.source.rows(self.indices)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Returns rows of the columns of `source`, without a copy of the other rows."""
        return self.source.rows(self.indices[indices])

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`."""
        return self.source.read(int(self.indices[index]), view)

    def read_map(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read_map`."""
        return self.source.read_map(int(self.indices[index]), view)

    def read_batch(self, indices: np.ndarray | slice) -> np.ndarray | None:
        """See `Source.read_batch`."""
        return self.source.read_batch(self.indices[indices])

    def name(self, index: int) -> str:
        """Returns the name that `source` gives the image."""
        return self.source.name(int(self.indices[index]))


@dataclasses.dataclass(frozen=True)
class Resized(Derived):
    """Images of any size, resized to one `shape`: their centers or, in training, random crops.

    `fit`, `ratio` and `interpolation` are those of `jaxcnn.data.decode.Center`. `crop` is (range of a random crop's share of
    the area, range of its aspect ratio relative to that of `shape`); at 1 nothing is distorted. With () training uses the
    center too. `sizes` are the sizes of random crops if they change during training.

    Raises:
      UserError: the source has boxes. They would have to be cropped with each image, which is not implemented.
    """

    shape: tuple[int, int, int]
    fit: str = "crop"
    ratio: float = 1.0
    interpolation: str = "area"
    crop: tuple[tuple[float, float], tuple[float, float]] | tuple[()] = ()
    seed: int = 0
    sizes: Sizes = ONE_SIZE

    def __post_init__(self) -> None:
        if "boxes" in self.source.fields:
            raise UserError("data: boxes cannot be resized with the images; store all images in one size")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image as it is evaluated; random crops may have other sizes, see `sizes`."""
        return self.shape

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. Without a view, returns the center of the stored image, resized to `shape`."""
        return self.source.read(index, view or self._center)

    def read_map(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read_map`. Without a view, returns the map of the same center."""
        return self.source.read_map(index, view or self._center)

    @property
    def _center(self) -> Center:
        return Center(self.shape[:2], self.fit, self.ratio, self.interpolation)

    def random_crop(self, position: int) -> RandomResizedCrop:
        """Returns the view at this position of the training sequence, a function of (seed, position)."""
        assert self.crop
        height, width = self.sizes.at_position(position) or self.shape[:2]
        area, (low, high) = self.crop
        return RandomResizedCrop(
            (height, width), area, (low * (width / height), high * (width / height)), key=(self.seed, position)
        )


def apply_view(image: np.ndarray, view: View | None) -> np.ndarray:
    """Returns the view of an image (H, W, C) uint8, as (*size, C) uint8; without a view, the image itself."""
    return image if view is None else look(image, view(*image.shape[:2]))


def training_view(source: Source, position: int) -> RandomResizedCrop | None:
    """Returns the view of the image at this position of the training sequence; None if `source` has no random crops."""
    return source.random_crop(position) if isinstance(source, Resized) and source.crop else None


def innermost(source: Source, index: int) -> tuple[Source, int]:
    """Returns the source that stores the images of `source`, and the index in it of image `index`."""
    while isinstance(source, Derived):
        index = int(source.indices[index]) if isinstance(source, Subset) else index
        source = source.source
    return source, index


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits of a data set, which share no example. After `load`, only validation may be None.

    `groups` (N,) names the group of each training example, such as a patient; examples of a group stay in one split.
    `notes` are lines for the user: how the files were interpreted, and which were ignored. `class_colors` are the colors in
    which maps are drawn; () for default colors.
    """

    train: Source
    validation: Source | None
    test: Source | None
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    class_colors: tuple[Color, ...] = ()

    def parts(self) -> dict[str, Source]:
        """Returns {"train": …, "validation": …, "test": …} without those that are None."""
        return {name: source for name in ("train", "validation", "test") if (source := getattr(self, name)) is not None}

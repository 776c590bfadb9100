"""Where examples come from: random access by index, images as uint8."""

import abc
import dataclasses
import functools

import numpy as np

from jaxcnn.data.decode import Centre, RandomResizedCrop, View, in_channels, look
from jaxcnn.errors import UserError


class Source(abc.ABC):
    """Examples by index."""

    labels: np.ndarray
    """(N,) int32 classes, or (N, K) int32 of zeros and ones where an image may have several labels."""

    @property
    @abc.abstractmethod
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C) of every image; None where their sizes differ."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: (H, W, C) uint8. Raises UserError, which names it, where it can't be read."""

    def __len__(self) -> int:
        return len(self.labels)

    def view(self, index: int, view: View) -> np.ndarray:
        """What a view shows of image `index`: (*size, C) uint8."""
        image = self[index]
        return look(image, view(*image.shape[:2]))

    def at(self, index: int, place: int) -> np.ndarray:
        """Image `index` as it is shown at place `place` of the training; the same everywhere but for random crops."""
        return self[index]

    def name(self, index: int) -> str:
        """What a person calls image `index`."""
        return f"image {index}"


def none_readable(source: Source) -> UserError:
    """What is said where no image of `source` can be read: why the first one can't."""
    try:
        source[0]
    except UserError as error:
        return UserError(f"{error}; nor could any other image of this data set be read")
    return UserError(f"{source.name(0)}: none of the images of this data set that were tried can be read")


@dataclasses.dataclass(frozen=True)
class ArraySource(Source):
    """Images (N, H, W, C) uint8 and labels in memory; with `channels`, grey is shown as RGB (3) or RGB as grey (1)."""

    images: np.ndarray
    labels: np.ndarray
    channels: int = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        _, height, width, channels = self.images.shape
        return height, width, self.channels or channels

    def __getitem__(self, index: int) -> np.ndarray:
        return in_channels(self.images[index], self.image_shape[2])


@dataclasses.dataclass(frozen=True)
class Subset(Source):
    """The examples of `source` at `indices`, in that order."""

    source: Source
    indices: np.ndarray

    @functools.cached_property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        """Labels of the examples, as the source has them."""
        return self.source.labels[self.indices]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """As the source has it."""
        return self.source.image_shape

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source[int(self.indices[index])]

    def view(self, index: int, view: View) -> np.ndarray:
        """As the source shows it."""
        return self.source.view(int(self.indices[index]), view)

    def name(self, index: int) -> str:
        """As the source names it."""
        return self.source.name(int(self.indices[index]))


@dataclasses.dataclass(frozen=True)
class Resized(Source):
    """Images of any size, all brought to one: by their centre or, in training, by random crops.

    `crop` is the range of a random crop's area and of its proportions; () for the centre in training too.
    """

    source: Source
    shape: tuple[int, int, int]
    fit: str = "crop"
    ratio: float = 1.0
    crop: tuple[tuple[float, float], tuple[float, float]] | tuple[()] = ()
    seed: int = 0

    @functools.cached_property
    def labels(self) -> np.ndarray:  # type: ignore[override]
        """As the source has them."""
        return self.source.labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.shape

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source.view(index, Centre(self.shape[:2], self.fit, self.ratio))

    def at(self, index: int, place: int) -> np.ndarray:
        """A random crop that is a function of (seed, place)."""
        if not self.crop:
            return self[index]
        return self.source.view(index, RandomResizedCrop(self.shape[:2], *self.crop, key=(self.seed, place)))

    def name(self, index: int) -> str:
        """As the source names it."""
        return self.source.name(index)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three parts of a data set, which share no example. After `load`, only validation may be None.

    `groups` says for each training example what may not be torn apart by a split: a patient, a track of frames.
    """

    train: Source
    validation: Source | None
    test: Source | None
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None

    def parts(self) -> dict[str, Source]:
        """{"train": …, "validation": …, "test": …}, those that there are."""
        return {name: source for name in ("train", "validation", "test") if (source := getattr(self, name)) is not None}

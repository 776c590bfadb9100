"""From uint8 images to a network's input. It goes with the weights wherever they go: training, evaluation, prediction."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data.augment.scene import Moved, fields_on, moved, scene
from jaxcnn.data.decode import Center, Window, decode_with_place, read_bytes
from jaxcnn.data.photo import Photo
from jaxcnn.data.reading import none_readable_error, read_or_none
from jaxcnn.data.samples import IntensityWindow
from jaxcnn.data.settings import DataSettings
from jaxcnn.data.sizes import height_and_width
from jaxcnn.data.sources import Resized, Source
from jaxcnn.errors import UserError

Fields = Mapping[str, jax.Array]
"""Columns of a batch beside its images, see `jaxcnn.data.fields`."""

MEASURED = 512  # pictures of a set that are decoded for mean and std: under a second


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize, then normalise: ((pixels / 255) - mean) / std, a channel each."""

    image_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 images that come in"""
    size: tuple[int, int]
    """(height, width) of the network's input"""
    resize: str
    """"bilinear" (antialiased) or "pad" (zeros around)"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "crop"
    """how a picture is brought to image_shape, see data.fit"""
    crop_ratio: float = 1.0
    interpolation: str = "area"
    """of pictures: "area", or Pillow's, see data.interpolation"""
    window: IntensityWindow = ()
    """of pictures of more than 8 bits, see data.window"""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, C) of the network's input."""
        return (*self.size, self.image_shape[2])

    def __call__(self, images: jax.Array, augment: Callable[[jax.Array], jax.Array] = lambda images: images) -> jax.Array:
        """(N, H, W, C) uint8 -> (N, height, width, C) float32; `augment` works on the resized pixels, still 0…255."""
        return self._normalized(augment(self._resized(images)))

    def with_fields(
        self,
        images: jax.Array,
        fields: Fields,
        augment: Callable[[jax.Array, Fields], tuple[jax.Array, Fields]] = lambda images, fields: (images, fields),
    ) -> tuple[jax.Array, Fields]:
        """`__call__` on images and on what lies on them: "map", "boxes" with "classes"; other fields stay as they are.

        Maps are resized nearest, or padded with VOID; boxes are scaled, or shifted. `augment` works on both, in pixels of the
        network's input, as `Augmentation.with_fields` does.
        """
        resized = self._resized(scene(images, fields))
        images, fields = augment(resized.images, {**fields, **fields_on(resized)})
        return self._normalized(images), fields

    def _normalized(self, images: jax.Array) -> jax.Array:
        images = images.astype(jnp.float32)
        mean, std = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, -1) for v in (self.mean, self.std))
        return (images / 255 - mean) / std

    def _resized(self, images: Moved) -> Moved:
        (height, width), (n, h, w, c) = self.size, images.shape
        if (h, w) == (height, width):
            return images
        top, left, shown_height, shown_width, *_ = self._shown((h, w))

        def matrices() -> jax.Array:
            return jnp.array([[[shown_width / width, 0, left], [0, shown_height / height, top]]], jnp.float32)

        def pixels(images: jax.Array) -> jax.Array:
            if self.resize == "pad":
                above, before = int(-top), int(-left)
                return jnp.pad(images, ((0, 0), (above, height - h - above), (before, width - w - before), (0, 0)))
            return jax.image.resize(images.astype(jnp.float32), (n, height, width, c), "bilinear", antialias=True)

        return moved(images, matrices, pixels)

    def _shown(self, shape: tuple[int, int]) -> Window:
        """The rectangle of an image of this (height, width) that the input shows."""
        (height, width), (h, w) = self.size, shape
        if self.resize == "pad":
            return Window(-((height - h) // 2), -((width - w) // 2), height, width, self.size)
        return Window(0, 0, h, w, self.size)

    def photo(self, path: str | Path) -> Photo:
        """The picture in a file as evaluation sees it, with the way back to its pixels. Raises UserError, which names it."""
        height, width, channels = self.image_shape
        if channels not in (1, 3):
            raise UserError(f"{path}: pictures have 1 or 3 channels, but the network takes {channels}")
        view = Center((height, width), self.fit, self.crop_ratio, self.interpolation)
        image, place = decode_with_place(read_bytes(path), str(path), channels, view, self.window)
        return Photo(str(path), image, place.size, place.window, self._shown((height, width)), self.window)

    def read(self, path: str | Path) -> np.ndarray:
        """The picture in a file as (H, W, C) uint8, as evaluation sees it. Raises UserError, which names it."""
        return self.photo(path).image

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`."""
        shapes: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**shapes)


def make_preprocessing(config: DataSettings, train: Source) -> Preprocessing:
    """What the settings `data.*` ask for; mean and std are measured on the training set where they are not given."""
    assert train.image_shape is not None, "sizes differ: jaxcnn.data.load brings them to one"
    height, width, channels = train.image_shape
    size = height_and_width(config.image_size or (height, width))
    if config.resize == "pad" and (size[0] < height or size[1] < width):
        raise UserError(
            f"data.image_size: {config.image_size} is less than the images' {height}×{width}, which can't be padded to it"
        )
    for name in ("mean", "std"):
        if (values := getattr(config, name)) and len(values) != channels:
            raise UserError(f"data.{name}: {len(values)} values for images of {channels} channels")
    mean, std = (config.mean, config.std) if config.mean and config.std else _statistics(train)
    seen: dict[str, Any] = (
        {name: getattr(config, name) for name in ("fit", "crop_ratio", "interpolation")} if isinstance(train, Resized) else {}
    )
    seen["window"] = config.window
    return Preprocessing((height, width, channels), size, config.resize, config.mean or mean, config.std or std, **seen)


def _statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, of pixels in 0…1, from counts of the 256 values: exact.

    Of pictures that have to be decoded, MEASURED spread over the set are taken; what can't be read is said elsewhere.
    """
    assert source.image_shape is not None
    channels = source.image_shape[2]
    counts = np.zeros((channels, 256), np.int64)
    many = min(len(source), MEASURED) if isinstance(source, Resized) else len(source)
    chosen = np.linspace(0, len(source) - 1, many).astype(int)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = pool.map if isinstance(source, Resized) else map  # decoding lets go of Python's lock
        for start in range(0, many, 512):
            pixels = source.read_batch(some := chosen[start : start + 512])
            if pixels is None:
                images = [image for image in read(functools.partial(read_or_none, source), some.tolist()) if image is not None]
                pixels = np.stack(images) if images else np.zeros((0, 0, 0, channels), np.uint8)
            for channel in range(channels):
                counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    if not counts.any():
        raise none_readable_error(source)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(np.maximum(counts @ values**2 / counts.sum(axis=1) - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())

"""Preprocessing of uint8 images to a network's input. It is stored with the weights and used wherever these are used."""

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
"""The columns of a batch other than its images, see `jaxcnn.data.fields`."""

MEASURED = 512  # images of a data set that are decoded to measure mean and std, which takes less than a second


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resizes images and normalizes them per channel: (pixels / 255 - mean) / std."""

    image_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 images before preprocessing"""
    size: tuple[int, int]
    """(height, width) of the network's input"""
    resize: str
    """"bilinear" (antialiased) or "pad" (zero padding)"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "crop"
    """how encoded images are brought to image_shape, see data.fit"""
    crop_ratio: float = 1.0
    interpolation: str = "area"
    """interpolation of encoded images, "area" or one of Pillow's, see data.interpolation"""
    window: IntensityWindow = ()
    """intensity window of images of more than 8 bits, see data.window"""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, C) of the network's input."""
        return (*self.size, self.image_shape[2])

    def __call__(self, images: jax.Array, augment: Callable[[jax.Array], jax.Array] = lambda images: images) -> jax.Array:
        """Converts (N, H, W, C) uint8 to (N, height, width, C) float32; `augment` is applied to the resized pixels, 0…255."""
        return self._normalized(augment(self._resized(images)))

    def with_fields(
        self,
        images: jax.Array,
        fields: Fields,
        augment: Callable[[jax.Array, Fields], tuple[jax.Array, Fields]] = lambda images, fields: (images, fields),
    ) -> tuple[jax.Array, Fields]:
        """Applies `__call__` to images, and resizes the fields "map" and "boxes" with them; other fields are unchanged.

        Maps are resized with nearest neighbor or padded with VOID; boxes are scaled or shifted. `augment` is applied to images
        and fields in pixels of the network's input, like `Augmentation.with_fields`.
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
        """Returns the window of an image of this (height, width) that the network's input shows."""
        (height, width), (h, w) = self.size, shape
        if self.resize == "pad":
            return Window(-((height - h) // 2), -((width - w) // 2), height, width, self.size)
        return Window(0, 0, h, w, self.size)

    def photo(self, path: str | Path) -> Photo:
        """Reads an image file as in evaluation, with the mapping back to its pixels. Raises UserError, which names the file."""
        height, width, channels = self.image_shape
        if channels not in (1, 3):
            raise UserError(f"{path}: an image file has 1 or 3 channels, but the network expects {channels}")
        view = Center((height, width), self.fit, self.crop_ratio, self.interpolation)
        image, place = decode_with_place(read_bytes(path), str(path), channels, view, self.window)
        return Photo(str(path), image, place.size, place.window, self._shown((height, width)), self.window)

    def read(self, path: str | Path) -> np.ndarray:
        """Reads an image file as in evaluation, (H, W, C) uint8. Raises UserError, which names the file."""
        return self.photo(path).image

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values, for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Returns the preprocessing that `to_json` wrote."""
        shapes: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**shapes)


def make_preprocessing(config: DataSettings, train: Source) -> Preprocessing:
    """Returns the preprocessing that the settings data.* state; mean and std are measured on `train` if they are not set."""
    assert train.image_shape is not None, "the images differ in size; jaxcnn.data.load resizes them"
    height, width, channels = train.image_shape
    size = height_and_width(config.image_size or (height, width))
    if config.resize == "pad" and (size[0] < height or size[1] < width):
        raise UserError(
            f"data.image_size: {config.image_size} is less than the images' {height}×{width}, but data.resize=pad cannot shrink"
        )
    for name in ("mean", "std"):
        if (values := getattr(config, name)) and len(values) != channels:
            raise UserError(f"data.{name}: expected {channels} values, one per channel, got {len(values)}")
    mean, std = (config.mean, config.std) if config.mean and config.std else _statistics(train)
    of_encoded: dict[str, Any] = (
        {name: getattr(config, name) for name in ("fit", "crop_ratio", "interpolation")} if isinstance(train, Resized) else {}
    )
    of_encoded["window"] = config.window
    return Preprocessing((height, width, channels), size, config.resize, config.mean or mean, config.std or std, **of_encoded)


def _statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the per-channel mean and standard deviation of pixels in 0…1, exactly, from counts of the 256 values.

    If images have to be decoded, MEASURED of them are used, spread evenly over the data set. Unreadable images are skipped
    here; they are reported elsewhere.
    """
    assert source.image_shape is not None
    channels = source.image_shape[2]
    counts = np.zeros((channels, 256), np.int64)
    number = min(len(source), MEASURED) if isinstance(source, Resized) else len(source)
    chosen = np.linspace(0, len(source) - 1, number).astype(int)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = pool.map if isinstance(source, Resized) else map  # decoding releases the GIL
        for start in range(0, number, 512):
            pixels = source.read_batch(indices := chosen[start : start + 512])
            if pixels is None:
                examples = read(functools.partial(read_or_none, source), indices.tolist())
                images = [example["image"] for example in examples if example is not None]
                pixels = np.stack(images) if images else np.zeros((0, 0, 0, channels), np.uint8)
            for channel in range(channels):
                counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    if not counts.any():
        raise none_readable_error(source)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(np.maximum(counts @ values**2 / counts.sum(axis=1) - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())

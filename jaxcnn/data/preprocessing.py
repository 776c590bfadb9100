"""From uint8 images to a network's input. It goes with the weights wherever they go: training, evaluation, prediction."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxcnn.data.sources import Source
from jaxcnn.errors import UserError


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

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, C) of the network's input."""
        return (*self.size, self.image_shape[2])

    def __call__(self, images: jax.Array, augment: Callable[[jax.Array], jax.Array] = lambda images: images) -> jax.Array:
        """(N, H, W, C) uint8 -> (N, height, width, C) float32; `augment` works on the resized pixels, still 0…255."""
        images = augment(self._resized(images)).astype(jnp.float32)
        mean, std = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, -1) for v in (self.mean, self.std))
        return (images / 255 - mean) / std

    def _resized(self, images: jax.Array) -> jax.Array:
        (height, width), (n, h, w, c) = self.size, images.shape
        if (h, w) == (height, width):
            return images
        if self.resize == "pad":
            top, left = (height - h) // 2, (width - w) // 2
            return jnp.pad(images, ((0, 0), (top, height - h - top), (left, width - w - left), (0, 0)))
        return jax.image.resize(images.astype(jnp.float32), (n, height, width, c), "bilinear", antialias=True)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`."""
        shapes: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**shapes)


def make_preprocessing(config: ConfigDict, train: Source) -> Preprocessing:
    """What the settings `data.*` ask for; mean and std are measured on the training set where they are not given."""
    height, width, channels = train.image_shape
    size = (config.image_size, config.image_size) if config.image_size else (height, width)
    if config.resize == "pad" and (size[0] < height or size[1] < width):
        raise UserError(f"data.image_size: {size[0]} is less than the images' {height}×{width}, which can't be padded to it")
    for name in ("mean", "std"):
        if config[name] and len(config[name]) != channels:
            raise UserError(f"data.{name}: {len(config[name])} values for images of {channels} channels")
    if any(value <= 0 for value in config.std):
        raise UserError(f"data.std: {config.std} should be above 0")
    mean, std = (config.mean, config.std) if config.mean and config.std else _statistics(train)
    return Preprocessing((height, width, channels), size, config.resize, config.mean or mean, config.std or std)


def _statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, of pixels in 0…1, exact: from counts of the 256 values."""
    channels = source.image_shape[2]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(source), 4096):
        images = np.stack([source[i] for i in range(start, min(start + 4096, len(source)))])
        for channel in range(channels):
            counts[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(np.maximum(counts @ values**2 / counts.sum(axis=1) - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())

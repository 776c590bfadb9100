"""SegNet.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation. 2015,
arXiv:1511.00561; figure 2.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import SegmentationNetwork

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG-16's convolutions


class SegNet(SegmentationNetwork, kw_only=True):
    """VGG-16 and its mirror image, which puts values where the encoder's max pooling found them."""

    without: ClassVar = frozenset({"drop_path_rate", "drop_rate", "remat"})

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H, W, num_classes) float32."""
        height, width = images.shape[1:3]
        x = jnp.pad(images, ((0, 0), (0, -height % 32), (0, -width % 32), (0, 0)), mode="edge")
        places = []
        for stage, widths in enumerate(STAGES, start=1):
            for number, features in enumerate(widths, start=1):
                layer = "stem" if stage == number == 1 else f"encoder{stage}_{number}"
                x = self.unit(x, features, layer, train)
            x, place = pooled(x)
            places.append(place)
        for stage, widths in reversed(list(enumerate(STAGES, start=1))):
            x = unpooled(x, places.pop())
            outputs = (*widths[1:], STAGES[stage - 2][-1] if stage > 1 else 0)  # the last one has the next stage's width
            for number, features in enumerate(outputs, start=1):
                if features:
                    x = self.unit(x, features, f"decoder{stage}_{number}", train)
        return self.per_pixel(x, "logits", size=3)[:, :height, :width]

    def unit(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        """A 3×3 convolution, batch norm and ReLU."""
        conv, norm = self.layers(train)
        return norm(name=f"{name}_norm", activation=nn.relu)(conv(features, 3, use_bias=True, name=f"{name}_conv")(x))


def pooled(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maxima of 2×2 windows (N, H, W, C) -> (N, H/2, W/2, C), and the place of each within its window, from 0 to 3."""
    count, height, width, channels = x.shape
    windows = x.reshape(count, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
    windows = windows.reshape(count, height // 2, width // 2, channels, 4)
    places = windows.argmax(axis=-1)
    return jnp.take_along_axis(windows, places[..., None], axis=-1)[..., 0], places


def unpooled(x: jax.Array, places: jax.Array) -> jax.Array:
    """Puts values at their places in 2×2 windows of zeros: (N, H, W, C) -> (N, 2H, 2W, C)."""
    count, height, width, channels = x.shape
    windows = x[..., None] * jax.nn.one_hot(places, 4, dtype=x.dtype)
    windows = windows.reshape(count, height, width, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return windows.reshape(count, 2 * height, 2 * width, channels)


variant("segnet", SegNet, image_size=360, paper="arXiv:1511.00561")  # 29.5 M parameters

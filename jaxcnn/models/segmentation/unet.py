"""U-Nets.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015, arXiv:1505.04597;
figures 1 and 2.
"""

from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import TransposedConv, max_pool
from jaxcnn.models.network import Flavor
from jaxcnn.models.registry import name_of, variant
from jaxcnn.models.segmentation.network import SegmentationNetwork
from jaxcnn.settings import Count

HE = Flavor(kernel_init=nn.initializers.he_normal(), conv_bias=True)  # section 3: deviation sqrt(2 / fan in)


class UNet(SegmentationNetwork, kw_only=True):
    """A contracting path and an expanding path, connected at each resolution.

    Attributes:
      width: channels of the first convolutions.
      depth: how often the contracting path halves the resolution.
      norm: batch norm between each 3×3 convolution and its ReLU; the paper has none.
      padding: "valid": convolutions without padding on images that are extended by mirroring, so that every pixel has logits.
        "same": convolutions with zero padding instead, which take less time.

    `drop_rate` is the dropout at the end of the contracting path (section 3.1).
    """

    flavor: Flavor = HE
    num_classes: Count = 2
    width: Count = 64
    depth: Count = 4
    norm: bool = False
    padding: Literal["valid", "same"] = "valid"
    without: ClassVar = frozenset({"drop_path_rate", "remat"})

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H, W, num_classes) float32."""
        if self.freeze_norm and not self.norm:
            raise UserError(f"{name_of(self)}: freeze_norm has no effect without norm=True: leave it out")
        height, width = images.shape[1:3]
        x, skips = self.extended(images), []
        for level in range(1, self.depth + 1):
            x = self.two_convs(x, f"down{level}", self.width * 2 ** (level - 1), train)
            skips.append(x)
            x = max_pool(x, 2, 2)
        x = self.two_convs(x, "bottom", self.width * 2**self.depth, train)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        for level in range(self.depth, 0, -1):
            features = self.width * 2 ** (level - 1)
            x = TransposedConv(features, 2, 2, dtype=self.dtype, name=f"up{level}_conv")(x)
            x = jnp.concatenate([cropped(skips.pop(), *x.shape[1:3]), x], axis=-1)
            x = self.two_convs(x, f"up{level}", features, train)
        return self.per_pixel(x[:, :height, :width], "logits")

    def two_convs(self, x: jax.Array, name: str, features: int, train: bool) -> jax.Array:
        """Two 3×3 convolutions with ReLU."""
        conv, norm = self.layers(train)
        for number in (1, 2):
            layer = "stem_conv" if (name, number) == ("down1", 1) else f"{name}_conv{number}"
            x = conv(features, 3, padding=int(self.padding == "same"), use_bias=not self.norm, name=layer)(x)
            x = norm(name=f"{name}_norm{number}", activation=nn.relu)(x) if self.norm else nn.relu(x)
        return x

    def extended(self, images: jax.Array) -> jax.Array:
        """Images, extended by mirroring to a size that the network can halve `depth` times, and to see a border around each."""
        factor = 2**self.depth
        margin = 6 * factor - 4 if self.padding == "valid" else 0  # what the unpadded convolutions remove on each side

        def border(size: int) -> tuple[int, int]:
            bottom = -(-(size - 4) // factor) + 8  # size of the map with the lowest resolution
            total = factor * (bottom + 4) - 4 if margin else -(-size // factor) * factor
            return margin, total - size - margin

        return jnp.pad(images, ((0, 0), border(images.shape[1]), border(images.shape[2]), (0, 0)), mode="reflect")


class EncoderUNet(SegmentationNetwork, kw_only=True):
    """An expanding path on the maps of a classifier, one level per stride.

    Attributes:
      encoder: the name of the classifier, as in `list_models`.
      widths: channels of the levels of the expanding path, from the lowest resolution to the highest.
    """

    encoder: str = "resnet34"
    widths: tuple[Count, ...] = (256, 128, 64, 32, 16)

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H, W, num_classes) float32."""
        *skips, x = self.encode(self.encoder, images, train=train)
        conv, norm = self.layers(train)
        for level, features in enumerate(self.widths, start=1):
            skip = skips.pop() if skips else None
            height, width = images.shape[1:3] if skip is None else skip.shape[1:3]
            x = jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "nearest")
            x = x if skip is None else jnp.concatenate([skip, x], axis=-1)
            for number in (1, 2):
                x = conv(features, 3, name=f"up{level}_conv{number}")(x)
                x = norm(name=f"up{level}_norm{number}", activation=nn.relu)(x)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return self.per_pixel(x, "logits")


def cropped(x: jax.Array, height: int, width: int) -> jax.Array:
    """The center of maps (N, H, W, C): (N, height, width, C)."""
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


unet = partial(variant, module=UNet, image_size=388, paper="arXiv:1505.04597")
unet("unet")  # 31.0 M parameters
variant("encoder_unet", EncoderUNet, image_size=224, paper="arXiv:1505.04597")  # 24.4 M with ResNet-34

"""timm's pre-activation residual networks, Big Transfer's (BiT) among them.

Kolesnikov, Beyer, Zhai, Puigcerver, Yung, Gelly, Houlsby: Big Transfer (BiT). ECCV 2020, arXiv:1912.11370: `…_bit` has group
norm and standardised kernels, and may be some times as wide. `…d` has ResNet-D's stem and shortcuts (arXiv:1812.01187).
All stride in a block's 3×3 and have no norm between the stem and the first block's; their heads start at 0.01 × normal.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.layers import BatchNorm, GroupNorm, StandardizedConv, conv, max_pool
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet_v2 import ResNetV2, zero_padded_max_pool


class TimmResNetV2(ResNetV2, kw_only=True):
    """timm's flavour, with batch norm or group norm."""

    norm: type[BatchNorm | GroupNorm]

    block_options = {}  # noqa: RUF012 (a ClassVar there)

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        if self.norm is GroupNorm:
            return partial(conv, dtype=self.dtype), partial(GroupNorm, dtype=self.dtype)
        return super().layers(train)

    def first_layers(self, images: jax.Array, convolution: Callable, norm: Callable) -> tuple[jax.Array, bool]:
        """(N, H, W, C) -> (N, H/4, W/4, width), or (N, H, W, width) with the small stem; and whether a ReLU is behind it."""
        x = self.stem_conv(images, convolution, norm)
        self.sow("intermediates", "stem", x)
        return (self.stem_pool(x) if self.stem == "imagenet" else x), False

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return max_pool(x, 3, 2, padding=1)

    def classifier(self, x: jax.Array) -> jax.Array:
        """(N, features) -> (N, num_classes)."""
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)


class TimmResNetV2D(TimmResNetV2):
    """The same with three 3×3 convolutions for a stem, and averages before it projects a shortcut."""

    block_options = {"average_shortcut": True}  # noqa: RUF012

    def stem_conv(self, images: jax.Array, convolution: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        x = convolution(self.width // 2, 3, 2 if self.stem == "imagenet" else 1, name="stem_conv")(images)
        x = convolution(self.width // 2, 3, name="stem_conv2")(norm(name="stem_norm1", activation=nn.relu)(x))
        return convolution(self.width, 3, name="stem_conv3")(norm(name="stem_norm2", activation=nn.relu)(x))


class BiT(TimmResNetV2):
    """The same with standardised kernels; as in TensorFlow, zeros around the stem's output are pooled too."""

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        _, norm = super().layers(train)
        return partial(conv, kind=partial(StandardizedConv, epsilon=1e-8), dtype=self.dtype), norm

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return zero_padded_max_pool(x)


fifty: dict[str, Any] = {"depths": (3, 4, 6, 3)}
hundred: dict[str, Any] = {"depths": (3, 4, 23, 3)}
resnet_v2 = partial(variant, image_size=224, paper="arXiv:1603.05027")
resnet_v2("timm/resnetv2_50", TimmResNetV2, **fifty, width=64, norm=BatchNorm)  # 25.5 M parameters
resnet_v2("timm/resnetv2_101", TimmResNetV2, **hundred, width=64, norm=BatchNorm)  # 44.5 M
resnet_v2("timm/resnetv2_50d", TimmResNetV2D, **fifty, width=64, norm=BatchNorm)  # 25.6 M
resnet_v2("timm/resnetv2_101d", TimmResNetV2D, **hundred, width=64, norm=BatchNorm)  # 44.6 M
resnet_v2("timm/resnetv2_50d_gn", TimmResNetV2D, **fifty, width=64, norm=GroupNorm)  # 25.6 M

bit = partial(variant, paper="arXiv:1912.11370")
bit("timm/resnetv2_50x1_bit", BiT, **fifty, width=64, norm=GroupNorm, image_size=224)  # 25.5 M
bit("timm/resnetv2_50x3_bit", BiT, **fifty, width=192, norm=GroupNorm, image_size=448)  # 217.3 M
bit("timm/resnetv2_101x1_bit", BiT, **hundred, width=64, norm=GroupNorm, image_size=448)  # 44.5 M
bit("timm/resnetv2_101x3_bit", BiT, **hundred, width=192, norm=GroupNorm, image_size=448)  # 387.9 M

"""timm's pre-activation residual networks, Big Transfer's (BiT) among them.

Kolesnikov, Beyer, Zhai, Puigcerver, Yung, Gelly, Houlsby: Big Transfer (BiT). ECCV 2020, arXiv:1912.11370: `…_bit` has group
norm and standardised kernels, and may be some times as wide. `…d` has ResNet-D's stem and shortcuts (arXiv:1812.01187).
All stride in a block's 3×3 and have no norm between the stem and the first block's; their heads start at 0.01 × normal.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from jaxcnn.layers import GroupNorm, StandardizedConv
from jaxcnn.models.network import TORCHVISION, ZEROS
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet_v2 import PreActBottleneck, ResNetV2, zero_padded_max_pool


class TimmResNetV2(ResNetV2):
    """With batch norm."""

    stem_norm = False


class TimmResNetV2D(TimmResNetV2):
    """The same with three 3×3 convolutions for a stem, and averages before it projects a shortcut."""

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        x = conv(self.width // 2, 3, 2 if self.stem == "imagenet" else 1, name="stem_conv")(images)
        x = conv(self.width // 2, 3, name="stem_conv2")(norm(name="stem_norm1", activation=nn.relu)(x))
        return conv(self.width, 3, name="stem_conv3")(norm(name="stem_norm2", activation=nn.relu)(x))


class GroupNormResNetV2D(TimmResNetV2D):
    """The same with group norm."""

    without = frozenset({"freeze_norm"})

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """The convolution and the norm that all blocks have."""
        return self.flavour.conv(self.dtype), partial(GroupNorm, dtype=self.dtype)


class BiT(TimmResNetV2):
    """With group norm and standardised kernels; as in TensorFlow, zeros around the stem's output are pooled too."""

    without = frozenset({"freeze_norm"})

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """The convolution and the norm that all blocks have."""
        standardized = partial(StandardizedConv, epsilon=1e-8)
        return partial(self.flavour.conv(self.dtype), kind=standardized), partial(GroupNorm, dtype=self.dtype)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return zero_padded_max_pool(x)


TIMM = TORCHVISION._replace(head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)
fifty, hundred = (3, 4, 6, 3), (3, 4, 23, 3)
timm = partial(variant, flavour=TIMM, block=PreActBottleneck, width=64, image_size=224)

resnet_v2 = partial(timm, module=TimmResNetV2, paper="arXiv:1603.05027")
resnet_v2("timm/resnetv2_50", depths=fifty)  # 25.5 M parameters
resnet_v2("timm/resnetv2_101", depths=hundred)  # 44.5 M

resnet_v2d = partial(resnet_v2, module=TimmResNetV2D, block=partial(PreActBottleneck, average_shortcut=True))
resnet_v2d("timm/resnetv2_50d", depths=fifty)  # 25.6 M
resnet_v2d("timm/resnetv2_101d", depths=hundred)  # 44.6 M
resnet_v2d("timm/resnetv2_50d_gn", module=GroupNormResNetV2D, depths=fifty)  # 25.6 M

bit = partial(timm, module=BiT, image_size=448, paper="arXiv:1912.11370")
bit("timm/resnetv2_50x1_bit", depths=fifty, image_size=224)  # 25.5 M
bit("timm/resnetv2_50x3_bit", depths=fifty, width=192)  # 217.3 M
bit("timm/resnetv2_101x1_bit", depths=hundred)  # 44.5 M
bit("timm/resnetv2_101x3_bit", depths=hundred, width=192)  # 387.9 M

"""timm's pre-activation residual networks, including Big Transfer (BiT).

Kolesnikov, Beyer, Zhai, Puigcerver, Yung, Gelly, Houlsby: Big Transfer (BiT). ECCV 2020, arXiv:1912.11370: `…_bit` has
group norm and standardized kernels; `x3` has 3 times the width. `…d` has ResNet-D's stem and shortcuts (arXiv:1812.01187).
In all of them the 3×3 convolution of a block carries the stride and no norm follows the stem. The head's kernel is initialized
from a normal distribution, σ = 0.01.
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
    """timm's form: no norm after the stem."""

    stem_norm = False


class TimmResNetV2D(TimmResNetV2):
    """A TimmResNetV2 with a stem of three 3×3 convolutions."""

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """The stem: (N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        x = conv(self.width // 2, 3, 2 if self.stem == "imagenet" else 1, name="stem_conv")(images)
        x = conv(self.width // 2, 3, name="stem_conv2")(norm(name="stem_norm1", activation=nn.relu)(x))
        return conv(self.width, 3, name="stem_conv3")(norm(name="stem_norm2", activation=nn.relu)(x))


class GroupNormResNetV2D(TimmResNetV2D):
    """A TimmResNetV2D with group norm."""

    without = frozenset({"freeze_norm"})

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Returns constructors of convolutions and norms."""
        return self.flavor.conv(self.dtype), partial(GroupNorm, dtype=self.dtype)


class BiT(TimmResNetV2):
    """A TimmResNetV2 with group norm and standardized kernels. Its max pool includes zero padding, as in TensorFlow."""

    without = frozenset({"freeze_norm"})

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Returns constructors of convolutions and norms."""
        standardized = partial(StandardizedConv, epsilon=1e-8)
        return partial(self.flavor.conv(self.dtype), kind=standardized), partial(GroupNorm, dtype=self.dtype)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """The max pool of the ImageNet stem: (N, H, W, C) -> (N, H/2, W/2, C)."""
        return zero_padded_max_pool(x)


TIMM = TORCHVISION._replace(head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)
depths_50, depths_101 = (3, 4, 6, 3), (3, 4, 23, 3)
timm = partial(variant, flavor=TIMM, block=PreActBottleneck, width=64, image_size=224)

resnet_v2 = partial(timm, module=TimmResNetV2, paper="arXiv:1603.05027")
resnet_v2("timm/resnetv2_50", depths=depths_50)  # 25.5 M parameters
resnet_v2("timm/resnetv2_101", depths=depths_101)  # 44.5 M

resnet_v2d = partial(resnet_v2, module=TimmResNetV2D, block=partial(PreActBottleneck, average_shortcut=True))
resnet_v2d("timm/resnetv2_50d", depths=depths_50)  # 25.6 M
resnet_v2d("timm/resnetv2_101d", depths=depths_101)  # 44.6 M
resnet_v2d("timm/resnetv2_50d_gn", module=GroupNormResNetV2D, depths=depths_50)  # 25.6 M

bit = partial(timm, module=BiT, image_size=448, paper="arXiv:1912.11370")
bit("timm/resnetv2_50x1_bit", depths=depths_50, image_size=224)  # 25.5 M
bit("timm/resnetv2_50x3_bit", depths=depths_50, width=192)  # 217.3 M
bit("timm/resnetv2_101x1_bit", depths=depths_101)  # 44.5 M
bit("timm/resnetv2_101x3_bit", depths=depths_101, width=192)  # 387.9 M

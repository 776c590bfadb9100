"""BN-Inception, also called Inception v2.

Ioffe, Szegedy: Batch Normalization. ICML 2015, arXiv:1502.03167; figure 5 in the appendix. The first
convolution is separable: depthwise with 8 filters per channel, then 1×1 (section 4.2.1). Padding is symmetric. Kernels are
initialized by He et al. (fan in); the paper does not specify it.
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxcnn.layers import AVERAGE_POOL, ConvSpec, PoolSpec, he_normal, max_pool, sequence
from jaxcnn.models.inception import Inception
from jaxcnn.models.network import Flavor
from jaxcnn.models.registry import variant


def module(ones: int, reduce3: int, threes: int, reduce_double: int, doubles: int, pooled: tuple) -> tuple:
    """A row of the table: branches with 1×1, 3×3, two 3×3 and pooling. If there is no 1×1 branch, the module has stride 2."""
    stride = 1 if ones else 2
    branches = (
        (ConvSpec(ones),),
        (ConvSpec(reduce3), ConvSpec(threes, 3, stride)),
        (ConvSpec(reduce_double), ConvSpec(doubles, 3), ConvSpec(doubles, 3, stride)),
        pooled,
    )
    return branches if ones else branches[1:]


def average(features: int) -> tuple:
    """The column "pool + proj"."""
    return AVERAGE_POOL, ConvSpec(features)


PASS_THROUGH = (PoolSpec("max", stride=2),)


class BNInception(Inception):
    """Ten inception modules. `drop_rate` defaults to 0, because the paper found dropout unnecessary."""

    smallest = 1
    stages = (
        {
            "pool": ((PoolSpec("max", stride=2),),),
            "inception3a": module(64, 64, 64, 64, 96, average(32)),
            "inception3b": module(64, 64, 96, 64, 96, average(64)),
        },
        {
            "inception3c": module(0, 128, 160, 64, 96, PASS_THROUGH),
            "inception4a": module(224, 64, 96, 96, 128, average(128)),
            "inception4b": module(192, 96, 128, 96, 128, average(128)),
            "inception4c": module(160, 128, 160, 128, 160, average(96)),
            "inception4d": module(96, 128, 192, 160, 192, average(96)),
        },
        {
            "inception4e": module(0, 128, 192, 192, 256, PASS_THROUGH),
            "inception5a": module(352, 192, 320, 160, 224, average(128)),
            "inception5b": module(352, 192, 320, 192, 224, (PoolSpec("max"), ConvSpec(128))),
        },
    )

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """Applies the stem: (N, H, W, C) -> (N, H/4, W/4, 192)."""
        channels = images.shape[-1]
        x = conv(8 * channels, 7, 2, groups=channels, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(conv(64, 1, name="stem_pointwise")(x))
        return sequence(max_pool(x, 3, 2, padding=1), (ConvSpec(64), ConvSpec(192, 3)), prefix="reduce_", conv=conv, norm=norm)


HE = Flavor(he_normal("fan_in"), epsilon=1e-3)
# 11.2 M parameters; the paper's 13.6 M include layers that it does not describe
variant("inception_bn", BNInception, flavor=HE, count_padding=True, image_size=224, paper="arXiv:1502.03167")

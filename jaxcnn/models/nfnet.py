"""Residual networks without normalization layers: NF-ResNets and NFNets.

Brock, De, Smith: Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets. ICLR 2021,
arXiv:2101.08692: `nf_resnet…`, algorithm 1 and section 3.
Brock, De, Smith, Simonyan: High-Performance Large-Scale Image Recognition Without Normalization. ICML 2021,
arXiv:2102.06171: `dm_nfnet_f…` (figure 3, table 1), as in timm, with the authors' weights.

The branch of a block starts with an activation and a division by the standard deviation that its input has at initialization:
each block adds alpha² to the variance, and a projection shortcut resets it to 1. Kernels are standardized. The outputs of
activations are scaled to variance 1, in NFNets by a constant factor, in NF-ResNets by the kernels that follow. Branches are
zero at initialization, in NFNets by a scalar gain (SkipInit), in NF-ResNets by the gain of their last kernel.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import ScaledStandardizedConv, SqueezeExcite, StochasticDepth, average_pool, max_pool
from jaxcnn.models.network import ZEROS, Flavor, Network
from jaxcnn.models.registry import variant

ALPHA = 0.2  # factor of a branch
RELU_GAMMA, GELU_GAMMA = (
    1.7139588594436646,
    1.7015043497085571,
)  # 1 / std of relu(x), gelu(x) for x ~ N(0, 1)
LECUN = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def scaled_gelu(x: jax.Array) -> jax.Array:
    """GELU scaled so that its output has variance 1 for x ~ N(0, 1)."""
    return nn.gelu(x, approximate=False) * GELU_GAMMA


def _shortcut(block: nn.Module, x: jax.Array, activated: jax.Array, features: int) -> jax.Array:
    """Returns x, or the average pool and projection of the branch's input if the size or the number of channels changes."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    if block.stride > 1:
        activated = average_pool(activated, 2, 2, ceil_mode=True, count_padding=False)
    return block.conv(features, 1, name="shortcut_conv")(activated)


class NFBottleneck(nn.Module):
    """A pre-activation bottleneck: 1×1, 3×3, 1×1 to `features`."""

    features: int
    stride: int
    beta: float  # 1 / standard deviation of the input at initialization
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    conv: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, features)."""
        activated = nn.relu(x) * self.beta
        y = self.conv(self.features // 4, 1, name="conv1")(activated)
        y = self.conv(self.features // 4, 3, self.stride, name="conv2")(nn.relu(y))
        zero = partial(ScaledStandardizedConv, epsilon=1e-5, gamma=RELU_GAMMA, gain_init=nn.initializers.zeros)
        y = self.conv(self.features, 1, kind=zero, name="conv3")(nn.relu(y))
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y * ALPHA + _shortcut(self, x, activated, self.features)


class NFNetBlock(nn.Module):
    """1×1, two 3×3 with groups of 128 channels, 1×1 to `features`, squeeze-and-excitation."""

    features: int
    stride: int
    beta: float  # 1 / standard deviation of the input at initialization
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    conv: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, features)."""
        width = self.features // 2
        activated = scaled_gelu(x) * self.beta
        y = self.conv(width, 1, name="conv1")(activated)
        y = self.conv(width, 3, self.stride, groups=width // 128, name="conv2")(scaled_gelu(y))
        y = self.conv(width, 3, groups=width // 128, name="conv2b")(scaled_gelu(y))
        y = self.conv(self.features, 1, name="conv3")(scaled_gelu(y))
        y = SqueezeExcite(width, kernel_init=LECUN, dtype=y.dtype, name="attention")(y) * 2  # gates are 1/2 at initialization
        y = StochasticDepth(self.drop_rate)(y, train=True)
        gain = self.param("skip_gain", nn.initializers.zeros, (), jnp.float32)
        return y * (gain * ALPHA).astype(y.dtype) + _shortcut(self, x, activated, self.features)


class NFNet(Network, kw_only=True):
    """Stem of four 3×3 convolutions, wide blocks with squeeze-and-excitation, 1×1 convolution, pooling, linear head; GELU.

    The rate of stochastic depth grows from 0 in the first block.
    """

    depths: tuple[int, ...]  # blocks in each stage
    features: tuple[int, ...]  # of each stage

    without = frozenset({"freeze_norm"})
    block: ClassVar[Callable[..., nn.Module]] = NFNetBlock
    gamma: ClassVar[float] = 1.0  # factor of standardized kernels

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv = partial(self.flavor.conv(self.dtype), kind=partial(ScaledStandardizedConv, epsilon=1e-5, gamma=self.gamma))
        x = self.first_layers(images, conv)
        rates, variance = self.drop_path_rates(sum(self.depths), train), 1.0
        for stage, (depth, features) in enumerate(zip(self.depths, self.features, strict=True), start=1):
            for index in range(1, depth + 1):
                block = self.block(
                    features=features,
                    stride=2 if stage > 1 and index == 1 else 1,
                    beta=variance**-0.5,
                    drop_rate=next(rates),
                    conv=conv,
                    name=f"stage{stage}_block{index}",
                )
                x = self.run(block, x)
                variance = (1.0 if index == 1 else variance) + ALPHA**2
            if stage == len(self.depths):
                x = self.last_layers(x, conv)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def first_layers(self, images: jax.Array, conv: Callable) -> jax.Array:
        """The stem: (N, H, W, C) -> (N, H/4, W/4, F)."""
        x = scaled_gelu(conv(16, 3, 2, name="stem_conv")(images))
        x = scaled_gelu(conv(32, 3, name="stem_conv2")(x))
        x = scaled_gelu(conv(64, 3, name="stem_conv3")(x))
        self.sow("intermediates", "stem", x)
        return conv(128, 3, 2, name="stem_conv4")(x)

    def last_layers(self, x: jax.Array, conv: Callable) -> jax.Array:
        """The layers after the last block: (N, H, W, C) -> (N, H, W, F)."""
        return scaled_gelu(conv(2 * x.shape[-1], 1, name="head_conv")(x))


class NFResNet(NFNet):
    """ResNet's stem, bottlenecks and ReLU; the scale of the kernels compensates for the ReLU."""

    block = NFBottleneck
    gamma = RELU_GAMMA

    def first_layers(self, images: jax.Array, conv: Callable) -> jax.Array:
        """The stem: (N, H, W, C) -> (N, H/4, W/4, 64)."""
        x = conv(64, 7, 2, name="stem_conv")(images)
        self.sow("intermediates", "stem", x)
        return max_pool(x, 3, 2, padding=1)

    def last_layers(self, x: jax.Array, conv: Callable) -> jax.Array:
        """The ReLU after the last block: (N, H, W, C) -> (N, H, W, C)."""
        return nn.relu(x)


TIMM = Flavor(LECUN, head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS, conv_bias=True)
nf_resnet = partial(variant, module=NFResNet, flavor=TIMM, paper="arXiv:2101.08692", features=(256, 512, 1024, 2048))
nf_resnet("timm/nf_resnet26", depths=(2, 2, 2, 2), image_size=224)  # 16.0 M parameters
nf_resnet("timm/nf_resnet50", depths=(3, 4, 6, 3), image_size=256)  # 25.6 M
nf_resnet("timm/nf_resnet101", depths=(3, 4, 23, 3), image_size=224)  # 44.5 M

nfnet = partial(
    variant, module=NFNet, flavor=TIMM._replace(padding="SAME"), paper="arXiv:2102.06171", features=(256, 512, 1536, 1536)
)
nfnet("timm/dm_nfnet_f0", depths=(1, 2, 6, 3), image_size=192)  # 71.5 M
nfnet("timm/dm_nfnet_f1", depths=(2, 4, 12, 6), image_size=224)  # 132.6 M
nfnet("timm/dm_nfnet_f2", depths=(3, 6, 18, 9), image_size=256)  # 193.8 M
nfnet("timm/dm_nfnet_f3", depths=(4, 8, 24, 12), image_size=320)  # 254.9 M
nfnet("timm/dm_nfnet_f4", depths=(5, 10, 30, 15), image_size=384)  # 316.1 M
nfnet("timm/dm_nfnet_f5", depths=(6, 12, 36, 18), image_size=416)  # 377.2 M
nfnet("timm/dm_nfnet_f6", depths=(7, 14, 42, 21), image_size=448)  # 438.4 M

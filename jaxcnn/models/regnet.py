"""RegNet.

Radosavovic, Kosaraju, Girshick, He, Dollár: Designing Network Design Spaces. CVPR 2020, arXiv:2003.13678; section 3.3.
The widths of a network follow from depth, w_0, w_a and w_m: block j has u_j = w_0 + w_a · j channels, quantized to w_0 · w_m^s
for an integer s (equations 2 to 4). RegNetY has squeeze-and-excitation after the 3×3 convolution, with a quarter of the block's
input channels.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from jaxcnn.layers import SqueezeExcite, StochasticDepth, he_normal, relu
from jaxcnn.models.network import TORCHVISION, ZEROS, Network
from jaxcnn.models.registry import variant


def stages(depth: int, w_0: int, w_a: float, w_m: float, group_width: int) -> tuple[tuple[int, int, int], ...]:
    """Returns (blocks, channels, group width) for each stage.

    Channels are rounded to multiples of 8, and then to multiples of the group width, which is at most the number of channels.
    """
    powers = np.round(np.log(1 + np.arange(depth) * w_a / w_0) / np.log(w_m))
    quantized = 8 * np.round(w_0 * w_m**powers / 8).astype(int)
    widths, depths = np.unique(quantized, return_counts=True)
    result = []
    for blocks, width in zip(depths.tolist(), widths.tolist(), strict=True):
        group = min(group_width, width)
        rounded = max(group, int(width + group / 2) // group * group)
        result.append((blocks, rounded + group * (rounded < 0.9 * width), group))  # rounds down by at most 10 %
    return tuple(result)


class Block(nn.Module):
    """1×1, grouped 3×3, squeeze-and-excitation in RegNetY, 1×1, and a shortcut."""

    width: int
    stride: int
    reduced: int  # channels inside the squeeze-and-excitation; 0: none
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    last_scale: jax.nn.initializers.Initializer  # scale of the last norm
    conv: Callable
    grouped_conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, width)."""
        y = self.conv(self.width, 1, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.grouped_conv(self.width, 3, self.stride, name="conv2")(y)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        if self.reduced:
            y = SqueezeExcite(self.reduced, dtype=y.dtype, name="squeeze_excite")(y)
        y = self.conv(self.width, 1, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=self.last_scale)(y)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = self.norm(name="shortcut_norm")(self.conv(self.width, 1, self.stride, name="shortcut_conv")(x))
        return relu(x + StochasticDepth(self.drop_rate)(y, train=True))


class RegNet(Network, kw_only=True):
    """Stem, four stages of residual bottlenecks with bottleneck ratio 1, global average pool, linear head.

    `zero_init_last` initializes the scale of each block's last norm to zero, so that a block initially equals its shortcut.
    The rate of stochastic depth grows from 0 in the first block, as in timm.
    """

    design: tuple[int, int, float, float, int]  # depth, w_0, w_a, w_m, group width
    se_ratio: float  # of the squeeze-and-excitation; 0: none (RegNetX)
    zero_init_last: bool = False

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = norm(name="stem_norm", activation=nn.relu)(conv(32, 3, 2, name="stem_conv")(images))
        self.sow("intermediates", "stem", x)

        grouped_init = self.flavor.grouped_init or self.flavor.kernel_init
        shapes = stages(*self.design)
        rates = self.drop_path_rates(sum(depth for depth, _, _ in shapes), train)
        for stage, (depth, width, group) in enumerate(shapes, start=1):
            for index in range(1, depth + 1):
                block = Block(
                    width=width,
                    stride=2 if index == 1 else 1,
                    reduced=round(self.se_ratio * x.shape[-1]),
                    drop_rate=next(rates),
                    last_scale=nn.initializers.zeros if self.zero_init_last else nn.initializers.ones,
                    conv=conv,
                    grouped_conv=partial(conv, groups=width // group, kernel_init=grouped_init),
                    norm=norm,
                    name=f"stage{stage}_block{index}",
                )
                x = self.run(block, x)
            self.sow("intermediates", f"stage{stage}", x)
        return x


TORCHVISION_REGNET = TORCHVISION._replace(head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)
regnet = partial(variant, module=RegNet, flavor=TORCHVISION_REGNET, image_size=224, paper="arXiv:2003.13678")
regnet_x = partial(regnet, se_ratio=0.0)
regnet_x("torchvision/regnet_x_400mf", design=(22, 24, 24.48, 2.54, 16))  # 5.5 M parameters
regnet_x("torchvision/regnet_x_800mf", design=(16, 56, 35.73, 2.28, 16))  # 7.3 M
regnet_x("torchvision/regnet_x_1_6gf", design=(18, 80, 34.01, 2.25, 24))  # 9.2 M
regnet_x("torchvision/regnet_x_3_2gf", design=(25, 88, 26.31, 2.25, 48))  # 15.3 M
regnet_x("torchvision/regnet_x_8gf", design=(23, 80, 49.56, 2.88, 120))  # 39.6 M
regnet_x("torchvision/regnet_x_16gf", design=(22, 216, 55.59, 2.1, 128))  # 54.3 M
regnet_x("torchvision/regnet_x_32gf", design=(23, 320, 69.86, 2.0, 168))  # 107.8 M

regnet_y = partial(regnet, se_ratio=0.25)
regnet_y("torchvision/regnet_y_400mf", design=(16, 48, 27.89, 2.09, 8))  # 4.3 M
regnet_y("torchvision/regnet_y_800mf", design=(14, 56, 38.84, 2.4, 16))  # 6.4 M
regnet_y("torchvision/regnet_y_1_6gf", design=(27, 48, 20.71, 2.65, 24))  # 11.2 M
regnet_y("torchvision/regnet_y_3_2gf", design=(21, 80, 42.63, 2.66, 24))  # 19.4 M
regnet_y("torchvision/regnet_y_8gf", design=(17, 192, 76.82, 2.19, 56))  # 39.4 M
regnet_y("torchvision/regnet_y_16gf", design=(18, 200, 106.23, 2.48, 112))  # 83.6 M
regnet_y("torchvision/regnet_y_32gf", design=(20, 232, 115.89, 2.53, 232))  # 145.0 M
regnet_y("torchvision/regnet_y_128gf", design=(27, 456, 160.83, 2.52, 264), image_size=384)  # 644.8 M

# timm's grouped kernels start by the fan out of a group, which is its fan in, for they keep the number of channels.
TIMM_REGNET = TORCHVISION_REGNET._replace(grouped_init=he_normal("fan_in"))
timm = partial(regnet, flavor=TIMM_REGNET, zero_init_last=True)
timm("timm/regnetx_002", design=(13, 24, 36.44, 2.49, 8), se_ratio=0.0)  # 2.7 M
timm("timm/regnety_002", design=(13, 24, 36.44, 2.49, 8), se_ratio=0.25)  # 3.2 M

"""RegNet.

Radosavovic, Kosaraju, Girshick, He, Dollár: Designing Network Design Spaces. CVPR 2020, arXiv:2003.13678; section 3.3.
A network is four numbers: block j is u_j = w_0 + w_a · j wide, quantised to w_0 · w_m^s for a whole s (equations 2 to 4).
RegNetY has squeeze-and-excitation after the 3×3, reduced to a quarter of the block's input channels.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import BatchNorm, SqueezeExcite, conv, global_average_pool, relu
from jaxcnn.models.registry import check_images, variant


def stages(depth: int, w_0: int, w_a: float, w_m: float, group_width: int) -> tuple[tuple[int, int, int], ...]:
    """(blocks, channels, channels of a group) of each stage.

    Widths are multiples of 8, and then of the stage's group width, of which there is no more than the width itself.
    """
    powers = np.round(np.log(1 + np.arange(depth) * w_a / w_0) / np.log(w_m))
    quantised = 8 * np.round(w_0 * w_m**powers / 8).astype(int)
    widths, depths = np.unique(quantised, return_counts=True)
    result = []
    for blocks, width in zip(depths.tolist(), widths.tolist(), strict=True):
        group = min(group_width, width)
        fitting = max(group, int(width + group / 2) // group * group)
        result.append((blocks, fitting + group * (fitting < 0.9 * width), group))  # loses no more than a tenth
    return tuple(result)


class RegNet(nn.Module):
    """Stem, four stages of residual bottlenecks that do not narrow, global average pool, linear head.

    `zero_init_last` starts every block as its shortcut, by a zero scale in its last norm. `freeze_norm` uses the
    running statistics in training too, and keeps them.
    """

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int
    se_ratio: float  # 0: RegNetX
    num_classes: int = 1000
    zero_init_last: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    fan_out_of_a_group = False  # a grouped convolution's initial variance is 2 / (9 · all of its output channels)

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        x = conv(32, 3, 2, dtype=self.dtype, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)

        shapes = stages(self.depth, self.w_0, self.w_a, self.w_m, self.group_width)
        for stage, (depth, width, group) in enumerate(shapes, start=1):
            for index in range(1, depth + 1):
                x = Block(
                    width=width,
                    stride=2 if index == 1 else 1,
                    groups=width // group,
                    reduced=round(self.se_ratio * x.shape[-1]),
                    last_scale=nn.initializers.zeros if self.zero_init_last else nn.initializers.ones,
                    variance=2.0 * width / group if self.fan_out_of_a_group else 2.0,
                    norm=norm,
                    dtype=self.dtype,
                    name=f"stage{stage}_block{index}",
                )(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)


class TimmRegNet(RegNet):
    """The same network, from timm's initial weights."""

    zero_init_last: bool = True

    fan_out_of_a_group = True


class Block(nn.Module):
    """1×1, grouped 3×3, squeeze-and-excitation if any, 1×1; and the shortcut around them."""

    width: int
    stride: int
    groups: int
    reduced: int  # units of the squeeze-and-excitation; 0: none
    last_scale: jax.nn.initializers.Initializer
    variance: float  # of the grouped 3×3's initial weights, times its fan out
    norm: partial
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, width)."""
        convolution = partial(conv, self.width, dtype=self.dtype)
        init = nn.initializers.variance_scaling(self.variance, "fan_out", "normal")
        y = convolution(1, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = convolution(3, self.stride, groups=self.groups, kernel_init=init, name="conv2")(y)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        if self.reduced:
            y = SqueezeExcite(self.reduced, dtype=self.dtype, name="squeeze_excite")(y)
        y = convolution(1, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=self.last_scale)(y)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = self.norm(name="shortcut_norm")(convolution(1, self.stride, name="shortcut_conv")(x))
        return relu(x + y)


def _variant(
    name: str,
    depth: int,
    w_0: int,
    w_a: float,
    w_m: float,
    group_width: int,
    module: type[RegNet] = RegNet,
    image_size: int = 224,
) -> None:
    """RegNetX and RegNetY differ in the squeeze-and-excitation alone."""
    se_ratio = 0.25 if "regnet_y" in name or "regnety" in name else 0.0
    fields = {"depth": depth, "w_0": w_0, "w_a": w_a, "w_m": w_m, "group_width": group_width, "se_ratio": se_ratio}
    variant(name, module, image_size=image_size, paper="arXiv:2003.13678", **fields)


_variant("torchvision/regnet_x_400mf", 22, 24, 24.48, 2.54, 16)  # 5.5 M parameters
_variant("torchvision/regnet_x_800mf", 16, 56, 35.73, 2.28, 16)  # 7.3 M
_variant("torchvision/regnet_x_1_6gf", 18, 80, 34.01, 2.25, 24)  # 9.2 M
_variant("torchvision/regnet_x_3_2gf", 25, 88, 26.31, 2.25, 48)  # 15.3 M
_variant("torchvision/regnet_x_8gf", 23, 80, 49.56, 2.88, 120)  # 39.6 M
_variant("torchvision/regnet_x_16gf", 22, 216, 55.59, 2.1, 128)  # 54.3 M
_variant("torchvision/regnet_x_32gf", 23, 320, 69.86, 2.0, 168)  # 107.8 M
_variant("torchvision/regnet_y_400mf", 16, 48, 27.89, 2.09, 8)  # 4.3 M
_variant("torchvision/regnet_y_800mf", 14, 56, 38.84, 2.4, 16)  # 6.4 M
_variant("torchvision/regnet_y_1_6gf", 27, 48, 20.71, 2.65, 24)  # 11.2 M
_variant("torchvision/regnet_y_3_2gf", 21, 80, 42.63, 2.66, 24)  # 19.4 M
_variant("torchvision/regnet_y_8gf", 17, 192, 76.82, 2.19, 56)  # 39.4 M
_variant("torchvision/regnet_y_16gf", 18, 200, 106.23, 2.48, 112)  # 83.6 M
_variant("torchvision/regnet_y_32gf", 20, 232, 115.89, 2.53, 232)  # 145.0 M
_variant("torchvision/regnet_y_128gf", 27, 456, 160.83, 2.52, 264, image_size=384)  # 644.8 M
_variant("timm/regnetx_002", 13, 24, 36.44, 2.49, 8, TimmRegNet)  # 2.7 M
_variant("timm/regnety_002", 13, 24, 36.44, 2.49, 8, TimmRegNet)  # 3.2 M

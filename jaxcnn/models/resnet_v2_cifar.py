"""Pre-activation residual networks for CIFAR, and Wide Residual Networks.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027; section 3 and table 4:
`preact_resnet110` of blocks of two 3×3 convolutions and shortcuts without parameters, `preact_resnet164` and `1001` of
bottlenecks with projected shortcuts where the width changes, as in the authors' code.
Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv:1605.07146; table 1: `wrn_28_10` has 28 layers and is 10 times
as wide; dropout, if any, stands between a block's two convolutions (the paper's rate is 0.3).

A 3×3 convolution, three stages, norm and ReLU, global average pool, linear head. As the papers' codes do it, convolutions
start by He et al. (fan out, and fan in for the wide ones), the head uniform, biases zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, StochasticDepth, conv, global_average_pool, he_normal, in_sequence, uniform
from jaxcnn.models.registry import check_images, variant
from jaxcnn.models.resnet_v2 import PreActBottleneck


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, norm and ReLU before each, and the shortcut around them."""

    filters: int
    stride: int
    drop_rate: float | jax.Array  # of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable
    activated: bool = False  # norm and ReLU are behind the input already
    project: bool = False
    dropout: float = 0.0  # 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        activated = x if self.activated else self.norm(name="norm1", activation=nn.relu)(x)
        y = self.conv(self.filters, 3, self.stride, name="conv1")(activated)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        y = nn.Dropout(self.dropout, deterministic=False)(y)
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + self.shortcut(x, activated)

    def shortcut(self, x, activated):
        """Where the number of channels changes a projection, or every stride-th pixel and zeros for the new channels."""
        new = self.filters - x.shape[-1]
        if new and self.project:
            return self.conv(self.filters, 1, self.stride, name="shortcut_conv")(activated)
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


class PreActCifarResNet(nn.Module):
    """A pre-activation network of three stages of `depth` blocks.

    `stochastic_depth_prob`, `remat` and `freeze_norm` are ResNet's. With `scan` a stage's equal blocks are compiled once.
    """

    depth: int
    block: Callable[..., nn.Module]
    filters: tuple[int, int, int]  # of each stage
    num_classes: int = 10
    stochastic_depth_prob: float = 0.0
    scan: bool = False
    remat: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    fan: ClassVar[Literal["fan_in", "fan_out"]] = "fan_out"

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images)
        convolution = partial(conv, kernel_init=he_normal(self.fan), dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)

        x = convolution(16, 3, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)

        for stage, filters in enumerate(self.filters, start=1):
            names = [f"stage{stage}_block{index}" for index in range(1, self.depth + 1)]
            last = self.stochastic_depth_prob / (3 * self.depth) if train else 0.0
            rates = [last * ((stage - 1) * self.depth + index) for index in range(1, self.depth + 1)]
            block = partial(self.block, filters=filters, conv=convolution, norm=norm, **self.options(train))
            first = partial(block, stride=2 if stage > 1 else 1, activated=stage == 1)
            x = in_sequence(self, first, names[:1], rates[:1], x, remat=self.remat)
            x = in_sequence(self, partial(block, stride=1), names[1:], rates[1:], x, scan=self.scan, remat=self.remat)
            if stage == 3:
                x = norm(name="head_norm", activation=nn.relu)(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        return nn.Dense(self.num_classes, kernel_init=uniform(x.shape[-1] ** -0.5), name="head")(x)

    def options(self, train: bool) -> dict[str, Any]:
        """Of every block."""
        return {}


class WideResNet(PreActCifarResNet):
    """The same with dropout in its blocks."""

    dropout: float = 0.0

    fan = "fan_in"

    def options(self, train: bool) -> dict[str, Any]:
        """Of every block."""
        return {"dropout": self.dropout if train else 0.0}


bottleneck = partial(PreActBottleneck, stride_first=True)
preact_resnet = partial(variant, image_size=32, paper="arXiv:1603.05027")
preact_resnet("preact_resnet110", PreActCifarResNet, depth=18, block=PreActBlock, filters=(16, 32, 64))  # 1.7 M parameters
preact_resnet("preact_resnet164", PreActCifarResNet, depth=18, block=bottleneck, filters=(16, 32, 64))  # 1.7 M
preact_resnet("preact_resnet1001", PreActCifarResNet, depth=111, block=bottleneck, filters=(16, 32, 64), scan=True)  # 10.3 M

wide = partial(PreActBlock, project=True)
wide_resnet = partial(variant, image_size=32, paper="arXiv:1605.07146")
wide_resnet("wrn_16_4", WideResNet, depth=2, block=wide, filters=(64, 128, 256))  # 2.7 M
wide_resnet("wrn_40_4", WideResNet, depth=6, block=wide, filters=(64, 128, 256))  # 8.9 M
wide_resnet("wrn_16_8", WideResNet, depth=2, block=wide, filters=(128, 256, 512))  # 11.0 M
wide_resnet("wrn_28_10", WideResNet, depth=4, block=wide, filters=(160, 320, 640))  # 36.5 M

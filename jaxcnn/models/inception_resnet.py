"""Inception-ResNet v1 and v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261. v1 follows the paper, figures 10 to 14. v2 follows TensorFlow's release, like timm and Keras: its
stem, its widths and its 10, 20 and 10 blocks differ from figures 15 to 18, and its last block has no ReLU but is followed by
a 1×1 convolution. Modules have the names of TensorFlow-Slim. Residuals are scaled down (section 3.3). Initialized as in the
library: timm's by PyTorch's default, uniform within ±1/sqrt(fan in), Keras's by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from jaxcnn.layers import Branches, ConvSpec, StochasticDepth, branched, relu, sequence, uniform
from jaxcnn.layers.branches import LayerSpecs
from jaxcnn.models.inception_v3 import MAX_POOL, module_a
from jaxcnn.models.inception_v3 import STEM as STEM_V3
from jaxcnn.models.inception_v4 import TIMM, reduction_a
from jaxcnn.models.network import KERAS, Initializer, Network
from jaxcnn.models.registry import variant


class StageSpec(NamedTuple):
    """Describes a stage: a reduction module that changes size and width, if any, and equal residual blocks."""

    reduction: dict[str, tuple[LayerSpecs, ...]]
    block: str
    """name of the blocks, as in TensorFlow-Slim"""
    depth: int
    """number of blocks"""
    branches: tuple[LayerSpecs, ...]
    scale: float
    """factor of the residuals"""


class Plan(NamedTuple):
    """Describes a version of the network."""

    stem: LayerSpecs
    stages: tuple[StageSpec, ...]
    last: int  # features of the 1×1 convolution after the last block; 0: none


def block_a(double: int, doubled: int) -> tuple[LayerSpecs, ...]:
    """Figures 10 and 16."""
    return (ConvSpec(32),), (ConvSpec(32), ConvSpec(32, 3)), (ConvSpec(32), ConvSpec(double, 3), ConvSpec(doubled, 3))


def factorized(size: int, ones: int, reduced: int, flat: int, tall: int) -> tuple[LayerSpecs, ...]:
    """Figures 11, 13, 17 and 19: an n×n convolution factorized into 1×n and n×1."""
    return (ConvSpec(ones),), (ConvSpec(reduced), ConvSpec(flat, (1, size)), ConvSpec(tall, (size, 1)))


def reduction_b(single: int, double: int, doubled: int) -> dict[str, tuple[LayerSpecs, ...]]:
    """Figures 12 and 18."""
    first, second = (ConvSpec(256), ConvSpec(384, 3, 2, 0)), (ConvSpec(256), ConvSpec(single, 3, 2, 0))
    return {"mixed_7a": (first, second, (ConvSpec(256), ConvSpec(double, 3), ConvSpec(doubled, 3, 2, 0)), (MAX_POOL,))}


V1 = Plan(
    stem=(*STEM_V3[:-1], ConvSpec(256, 3, 2, 0)),
    stages=(
        StageSpec({}, "block35", 5, block_a(32, 32), 0.17),
        StageSpec(reduction_a(192, 192, 256), "block17", 10, factorized(7, 128, 128, 128, 128), 0.1),
        StageSpec(reduction_b(256, 256, 256), "block8", 5, factorized(3, 192, 192, 192, 192), 0.2),
    ),
    last=0,
)
V2 = Plan(
    stem=STEM_V3,
    stages=(
        StageSpec({"mixed_5b": module_a(64, ones=96)}, "block35", 10, block_a(48, 64), 0.17),
        StageSpec(reduction_a(256, 256, 384), "block17", 20, factorized(7, 192, 128, 160, 192), 0.1),
        StageSpec(reduction_b(288, 288, 320), "block8", 10, factorized(3, 192, 192, 224, 256), 0.2),
    ),
    last=1536,
)


class ResidualBlock(nn.Module):
    """Branches, a 1×1 convolution with bias to the input's width, scaling, and a shortcut."""

    branches: tuple[LayerSpecs, ...]
    scale: float
    conv: Callable
    norm: Callable
    bias_init: Initializer | None  # None: PyTorch's default
    is_last: bool
    drop_rate: float  # rate of stochastic depth; 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        y = branched(x, self.branches, conv=self.conv, norm=self.norm)
        bias_init = self.bias_init or uniform(y.shape[-1] ** -0.5)
        y = self.conv(x.shape[-1], 1, use_bias=True, bias_init=bias_init, name="expand")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return x + y if self.is_last else relu(x + self.scale * y)


class InceptionResNet(Network, kw_only=True):
    """Stem, three stages of residual inception blocks, global average pool, dropout, linear head.

    The rate of stochastic depth grows from 0 in the first block.
    """

    plan: Plan

    smallest = 75

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = sequence(images, self.plan.stem, prefix="stem_", conv=conv, norm=norm)
        self.sow("intermediates", "stem", x)
        rates = self.drop_path_rates(sum(stage.depth for stage in self.plan.stages), train)
        for number, stage in enumerate(self.plan.stages, start=1):
            for name, branches in stage.reduction.items():
                x = Branches(branches, conv, norm, count_padding=False, name=name)(x)
            for index in range(1, stage.depth + 1):
                block = ResidualBlock(
                    stage.branches,
                    stage.scale,
                    conv,
                    norm,
                    self.flavor.head_bias_init,
                    is_last=bool(self.plan.last) and (number, index) == (3, stage.depth),
                    drop_rate=next(rates),
                    name=f"{stage.block}_{index}",
                )
                x = self.run(block, x)
            if number == 3 and self.plan.last:
                x = norm(name="last_norm", activation=nn.relu)(conv(self.plan.last, 1, name="last_conv")(x))
            self.sow("intermediates", f"stage{number}", x)
        return x


inception_resnet = partial(variant, module=InceptionResNet, flavor=TIMM, plan=V2, image_size=299, paper="arXiv:1602.07261")
inception_resnet("inception_resnet_v1", plan=V1, drop_rate=0.2)  # the paper's rate
inception_resnet("inception_resnet_v2", drop_rate=0.2)  # 55.8 M parameters
inception_resnet("timm/inception_resnet_v2")
inception_resnet("keras/InceptionResNetV2", flavor=KERAS._replace(norm_scale=False))

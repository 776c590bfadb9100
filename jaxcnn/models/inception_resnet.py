"""Inception-ResNet v1 and v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261. v1 is the paper's, figures 10 to 14. v2 is TensorFlow's release, which timm and Keras follow:
its stem, its widths and 10, 20 and 10 blocks are not those of figures 15 to 18, its last block is not followed by a
ReLU, and a 1×1 convolution ends it. The modules have the names of TensorFlow's slim. Residuals are scaled down (section
3.3). Initialised as the library does: timm with PyTorch's own, uniform within ±1/sqrt(fan in), Keras by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from jaxcnn.layers import AVERAGE_POOL, Branches, Conv, StochasticDepth, branched, relu, sequence, uniform
from jaxcnn.layers.branches import Steps
from jaxcnn.models.inception_v3 import MAX_POOL
from jaxcnn.models.inception_v3 import STEM as STEM_V3
from jaxcnn.models.inception_v4 import TIMM
from jaxcnn.models.network import KERAS, Initializer, Network
from jaxcnn.models.registry import variant


class Stage(NamedTuple):
    """What brings the stage's size and width, if anything, and then residual blocks."""

    reduction: dict[str, tuple[Steps, ...]]
    block: str
    depth: int
    branches: tuple[Steps, ...]
    scale: float


class Plan(NamedTuple):
    """A version of the network."""

    stem: Steps
    stages: tuple[Stage, ...]
    last: int  # features of the 1×1 convolution at the end, 0 for none


V1 = Plan(
    stem=(*STEM_V3[:-1], Conv(256, 3, 2, 0)),
    stages=(
        Stage({}, "block35", 5, ((Conv(32),), (Conv(32), Conv(32, 3)), (Conv(32), Conv(32, 3), Conv(32, 3))), 0.17),
        Stage(
            {"mixed_6a": ((Conv(384, 3, 2, 0),), (Conv(192), Conv(192, 3), Conv(256, 3, 2, 0)), (MAX_POOL,))},
            "block17",
            10,
            ((Conv(128),), (Conv(128), Conv(128, (1, 7)), Conv(128, (7, 1)))),
            0.1,
        ),
        Stage(
            {
                "mixed_7a": (
                    (Conv(256), Conv(384, 3, 2, 0)),
                    (Conv(256), Conv(256, 3, 2, 0)),
                    (Conv(256), Conv(256, 3), Conv(256, 3, 2, 0)),
                    (MAX_POOL,),
                )
            },
            "block8",
            5,
            ((Conv(192),), (Conv(192), Conv(192, (1, 3)), Conv(192, (3, 1)))),
            0.2,
        ),
    ),
    last=0,
)
V2 = Plan(
    stem=STEM_V3,
    stages=(
        Stage(
            {
                "mixed_5b": (
                    (Conv(96),),
                    (Conv(48), Conv(64, 5)),
                    (Conv(64), Conv(96, 3), Conv(96, 3)),
                    (AVERAGE_POOL, Conv(64)),
                )
            },
            "block35",
            10,
            ((Conv(32),), (Conv(32), Conv(32, 3)), (Conv(32), Conv(48, 3), Conv(64, 3))),
            0.17,
        ),
        Stage(
            {"mixed_6a": ((Conv(384, 3, 2, 0),), (Conv(256), Conv(256, 3), Conv(384, 3, 2, 0)), (MAX_POOL,))},
            "block17",
            20,
            ((Conv(192),), (Conv(128), Conv(160, (1, 7)), Conv(192, (7, 1)))),
            0.1,
        ),
        Stage(
            {
                "mixed_7a": (
                    (Conv(256), Conv(384, 3, 2, 0)),
                    (Conv(256), Conv(288, 3, 2, 0)),
                    (Conv(256), Conv(288, 3), Conv(320, 3, 2, 0)),
                    (MAX_POOL,),
                )
            },
            "block8",
            10,
            ((Conv(192),), (Conv(192), Conv(224, (1, 3)), Conv(256, (3, 1)))),
            0.2,
        ),
    ),
    last=1536,
)


class ResidualBlock(nn.Module):
    """Branches, a 1×1 convolution with bias that brings them to the input's width, scaled, and the shortcut around them."""

    branches: tuple[Steps, ...]
    scale: float
    conv: Callable
    norm: Callable
    bias_init: Initializer | None  # None: as PyTorch's
    is_last: bool
    drop_rate: float  # of stochastic depth; 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> the same shape."""
        y = branched(x, self.branches, conv=self.conv, norm=self.norm)
        bias_init = self.bias_init or uniform(y.shape[-1] ** -0.5)
        y = self.conv(x.shape[-1], 1, use_bias=True, bias_init=bias_init, name="expand")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return x + y if self.is_last else relu(x + self.scale * y)


class InceptionResNet(Network, kw_only=True):
    """Stem, three stages of residual inception blocks, global average pool, dropout, linear head.

    `drop_path_rate` is that of the last block, and 0 in the first.
    """

    plan: Plan

    smallest = 75

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = sequence(images, self.plan.stem, prefix="stem_", conv=conv, norm=norm)
        self.sow("intermediates", "stem", x)
        blocks, last = 0, sum(stage.depth for stage in self.plan.stages) - 1
        for number, stage in enumerate(self.plan.stages, start=1):
            for name, branches in stage.reduction.items():
                x = Branches(branches, conv, norm, count_padding=False, name=name)(x)
            for index in range(1, stage.depth + 1):
                block = ResidualBlock(
                    stage.branches,
                    stage.scale,
                    conv,
                    norm,
                    self.flavour.head_bias_init,
                    is_last=bool(self.plan.last) and blocks == last,
                    drop_rate=self.drop_path_rate * blocks / max(last, 1) if train else 0.0,
                    name=f"{stage.block}_{index}",
                )
                x = self.run(block, x)
                blocks += 1
            if number == 3 and self.plan.last:
                x = norm(name="last_norm", activation=nn.relu)(conv(self.plan.last, 1, name="last_conv")(x))
            self.sow("intermediates", f"stage{number}", x)
        return x


inception_resnet = partial(variant, module=InceptionResNet, flavour=TIMM, plan=V2, image_size=299, paper="arXiv:1602.07261")
inception_resnet("inception_resnet_v1", plan=V1, drop_rate=0.2)  # the paper's rate
inception_resnet("inception_resnet_v2", drop_rate=0.2)  # 55.8 M parameters
inception_resnet("timm/inception_resnet_v2")
inception_resnet("keras/InceptionResNetV2", flavour=KERAS._replace(norm_scale=False))

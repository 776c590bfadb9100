"""Inception-ResNet v1 and v2.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261. v1 is the paper's, figures 10 to 14. v2 is TensorFlow's release, which timm and Keras follow:
its stem, its widths and 10, 20 and 10 blocks are not those of figures 15 to 18, its last block is not followed by a
ReLU, and a 1×1 convolution ends it. The modules have the names of TensorFlow's slim. Residuals are scaled down (section
3.3). Initialised as the library does: timm with PyTorch's own, uniform within ±1/sqrt(fan in), Keras by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import (
    AVERAGE_POOL,
    BatchNorm,
    Branches,
    Conv,
    conv,
    global_average_pool,
    linear,
    relu,
    sequence,
    uniform,
)
from jaxcnn.layers.branches import Steps
from jaxcnn.models.inception_v3 import MAX_POOL
from jaxcnn.models.inception_v3 import STEM as STEM_V3
from jaxcnn.models.registry import check_images, variant


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
    bias_init: Callable[[int], jax.nn.initializers.Initializer]
    is_last: bool

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> the same shape."""
        outputs = [
            sequence(x, steps, prefix=f"branch{b}_", conv=self.conv, norm=self.norm)
            for b, steps in enumerate(self.branches, start=1)
        ]
        y = jnp.concatenate(outputs, axis=-1)
        y = self.conv(x.shape[-1], 1, use_bias=True, bias_init=self.bias_init(y.shape[-1]), name="expand")(y)
        return x + y if self.is_last else relu(x + self.scale * y)


class InceptionResNet(nn.Module):
    """Stem, three stages of residual inception blocks, global average pool, dropout, linear head.

    `drop_rate` is the dropout's, 0.2 in the paper. `freeze_norm` uses the running statistics in training too. With
    `remat`, blocks are computed again in the backward pass instead of kept: less memory, more time.
    """

    plan: Plan
    flavour: Literal["timm", "keras"]
    num_classes: int = 1000
    drop_rate: float = 0.0
    freeze_norm: bool = False
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=75)
        keras = self.flavour == "keras"
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        if keras:
            norm = partial(norm, momentum=0.01, unbiased=False, use_scale=False)
        init = nn.initializers.glorot_uniform() if keras else nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        layers: dict[str, Any] = {"conv": partial(conv, kernel_init=init, dtype=self.dtype), "norm": norm}
        block = nn.remat(ResidualBlock) if self.remat else ResidualBlock

        x = sequence(images, self.plan.stem, prefix="stem_", **layers)
        self.sow("intermediates", "stem", x)
        for number, stage in enumerate(self.plan.stages, start=1):
            for name, branches in stage.reduction.items():
                x = Branches(branches, name=name, count_padding=False, **layers)(x)
            for index in range(1, stage.depth + 1):
                x = block(
                    stage.branches,
                    stage.scale,
                    **layers,
                    bias_init=lambda inputs: nn.initializers.zeros if keras else uniform(inputs**-0.5),
                    is_last=bool(self.plan.last) and (number, index) == (3, stage.depth),
                    name=f"{stage.block}_{index}",
                )(x)
            if number == 3 and self.plan.last:
                x = norm(name="last_norm", activation=nn.relu)(layers["conv"](self.plan.last, 1, name="last_conv")(x))
            self.sow("intermediates", f"stage{number}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        head: dict[str, Any] = {"kernel_init": init, "bias_init": nn.initializers.zeros} if keras else {}
        return linear(x.shape[-1], self.num_classes, name="head", **head)(x)


inception_resnet = partial(variant, image_size=299, paper="arXiv:1602.07261")
inception_resnet("inception_resnet_v1", InceptionResNet, plan=V1, flavour="timm", drop_rate=0.2)
inception_resnet("inception_resnet_v2", InceptionResNet, plan=V2, flavour="timm", drop_rate=0.2)  # 55.8 M parameters
inception_resnet("timm/inception_resnet_v2", InceptionResNet, plan=V2, flavour="timm")
inception_resnet("keras/InceptionResNetV2", InceptionResNet, plan=V2, flavour="keras")

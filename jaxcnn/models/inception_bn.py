"""BN-Inception, also called Inception v2.

Ioffe, Szegedy: Batch Normalization. ICML 2015, arXiv:1502.03167; the table of its appendix (figure 5). The first
convolution is separable, a depthwise one with 8 filters a channel and a 1×1, as its section 4.2.1 says. Padding is the
same on each side. The kernels start by He et al. (fan in): the paper doesn't say.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import (
    AVERAGE_POOL,
    BatchNorm,
    Branches,
    Conv,
    Pool,
    conv,
    global_average_pool,
    he_normal,
    linear,
    max_pool,
    sequence,
)
from jaxcnn.models.registry import check_images, variant


def module(ones: int, reduce3: int, threes: int, reduce_double: int, doubles: int, pooled: tuple) -> tuple:
    """A line of the table: 1×1, 3×3, two 3×3, pool; what has no 1×1 branch strides, and passes the pooled input through."""
    stride = 1 if ones else 2
    branches = (
        (Conv(ones),),
        (Conv(reduce3), Conv(threes, 3, stride)),
        (Conv(reduce_double), Conv(doubles, 3), Conv(doubles, 3, stride)),
        pooled,
    )
    return branches if ones else branches[1:]


def average(features: int) -> tuple:
    """The column "pool + proj"."""
    return AVERAGE_POOL, Conv(features)


PASS_THROUGH = (Pool("max", stride=2),)
STAGES: tuple[dict[str, tuple], ...] = (
    {
        "3a": module(64, 64, 64, 64, 96, average(32)),
        "3b": module(64, 64, 96, 64, 96, average(64)),
    },
    {
        "3c": module(0, 128, 160, 64, 96, PASS_THROUGH),
        "4a": module(224, 64, 96, 96, 128, average(128)),
        "4b": module(192, 96, 128, 96, 128, average(128)),
        "4c": module(160, 128, 160, 128, 160, average(96)),
        "4d": module(96, 128, 192, 160, 192, average(96)),
    },
    {
        "4e": module(0, 128, 192, 192, 256, PASS_THROUGH),
        "5a": module(352, 192, 320, 160, 224, average(128)),
        "5b": module(352, 192, 320, 192, 224, (Pool("max"), Conv(128))),
    },
)


class BNInception(nn.Module):
    """Stem, ten inception modules in three stages, global average pool, dropout, linear head.

    `dropout` is off, as the paper found it may be. `freeze_norm` uses the running statistics in training too.
    """

    num_classes: int = 1000
    dropout: float = 0.0
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 1024) features if num_classes is 0."""
        check_images(self, images)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        convolution = partial(conv, kernel_init=he_normal("fan_in"), dtype=self.dtype)
        layers: dict[str, Any] = {"conv": convolution, "norm": norm}

        channels = images.shape[-1]
        x = convolution(8 * channels, 7, 2, groups=channels, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(convolution(64, 1, name="stem_pointwise")(x))
        x = sequence(max_pool(x, 3, 2, padding=1), (Conv(64), Conv(192, 3)), prefix="reduce_", **layers)
        self.sow("intermediates", "stem", x)
        x = max_pool(x, 3, 2, padding=1)
        for stage, modules in enumerate(STAGES, start=1):
            for name, branches in modules.items():
                x = Branches(branches, name=f"inception{name}", **layers)(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return linear(1024, self.num_classes, name="head")(x)


# 11.2 M parameters; the paper's 13.6 M are with what it doesn't show
variant("inception_bn", BNInception, image_size=224, paper="arXiv:1502.03167")

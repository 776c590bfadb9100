"""Inception v3.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision. CVPR 2016,
arXiv:1512.00567; table 1 and figures 5 to 8 and 10. Names and widths of modules, which the paper does not give, are those of
TensorFlow-Slim. Initialized as in the library: torchvision's kernels by a normal distribution with σ = 0.1, Keras's by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax

from jaxcnn.errors import UserError
from jaxcnn.layers import AVERAGE_POOL, ConvSpec, PoolSpec, average_pool, global_average_pool, linear
from jaxcnn.models.inception import AuxiliaryInception
from jaxcnn.models.network import KERAS, TORCHVISION
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share

MAX_POOL = PoolSpec("max", stride=2, padding=0)
STEM = (ConvSpec(32, 3, 2, 0), ConvSpec(32, 3, 1, 0), ConvSpec(64, 3), MAX_POOL, ConvSpec(80), ConvSpec(192, 3, 1, 0), MAX_POOL)


def module_a(pooled: int, ones: int = 64) -> tuple:
    """Figure 5, with one of its branches still a 5×5 convolution."""
    return (
        (ConvSpec(ones),),
        (ConvSpec(48), ConvSpec(64, 5)),
        (ConvSpec(64), ConvSpec(96, 3), ConvSpec(96, 3)),
        (AVERAGE_POOL, ConvSpec(pooled)),
    )


def module_b(width: int) -> tuple:
    """Figure 6: 7×7 convolutions factorized into 1×7 and 7×1."""
    flat, tall = (1, 7), (7, 1)
    return (
        (ConvSpec(192),),
        (ConvSpec(width), ConvSpec(width, flat), ConvSpec(192, tall)),
        (ConvSpec(width), ConvSpec(width, tall), ConvSpec(width, flat), ConvSpec(width, tall), ConvSpec(192, flat)),
        (AVERAGE_POOL, ConvSpec(192)),
    )


def module_c() -> tuple:
    """Figure 7: 1×3 and 3×1 convolutions in parallel."""
    pair = (ConvSpec(384, (1, 3)), ConvSpec(384, (3, 1)))
    return (ConvSpec(320),), (ConvSpec(384), pair), (ConvSpec(448), ConvSpec(384, 3), pair), (AVERAGE_POOL, ConvSpec(192))


REDUCTION_A = ((ConvSpec(384, 3, 2, 0),), (ConvSpec(64), ConvSpec(96, 3), ConvSpec(96, 3, 2, 0)), (MAX_POOL,))
REDUCTION_B = (
    (ConvSpec(192), ConvSpec(320, 3, 2, 0)),
    (ConvSpec(192), ConvSpec(192, (1, 7)), ConvSpec(192, (7, 1)), ConvSpec(192, 3, 2, 0)),
    (MAX_POOL,),
)
STAGES: tuple[dict[str, tuple], ...] = (
    {"mixed_5b": module_a(32), "mixed_5c": module_a(64), "mixed_5d": module_a(64)},
    {
        "mixed_6a": REDUCTION_A,
        "mixed_6b": module_b(128),
        "mixed_6c": module_b(160),
        "mixed_6d": module_b(160),
        "mixed_6e": module_b(192),
    },
    {"mixed_7a": REDUCTION_B, "mixed_7b": module_c(), "mixed_7c": module_c()},
)


class AuxiliaryHead(nn.Module):
    """A classifier of the second stage's output (figure 8)."""

    num_classes: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, num_classes) float32."""
        x = average_pool(x, 5, 3)
        x = self.norm(name="norm1", activation=nn.relu)(self.conv(128, 1, name="conv1")(x))
        x = self.norm(name="norm2", activation=nn.relu)(self.conv(768, 5, padding=0, name="conv2")(x))
        return linear(768, self.num_classes, kernel_init=nn.initializers.normal(0.001), name="fc")(global_average_pool(x))


class InceptionV3(AuxiliaryInception):
    """Eleven inception modules. The auxiliary head needs images of at least 299×299 in training."""

    drop_rate: Share = 0.5

    smallest = 75
    stem_specs = STEM
    stages = STAGES
    heads: ClassVar = {"mixed_6e": "aux"}

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 2048)."""
        height, width = images.shape[1:3]
        if min(height, width) < 299 and self.computes_auxiliary(train):
            raise UserError(
                f"{height}×{width} is too small for the auxiliary head of inception_v3 in training: "
                "at least 299×299, or aux_logits=False"
            )
        return super().backbone(images, train=train)

    def auxiliary(self, train: bool, name: str) -> nn.Module:
        """Returns the auxiliary head (N, H, W, C) -> (N, num_classes) float32."""
        return AuxiliaryHead(self.num_classes, *self.layers(train), name=name)


normal = nn.initializers.normal(0.1)
inception_v3 = partial(variant, module=InceptionV3, image_size=299, paper="arXiv:1512.00567")
# 27.2 M parameters, 23.8 M without the auxiliary head
torchvision = TORCHVISION._replace(kernel_init=normal, head_init=normal, epsilon=1e-3)
inception_v3("torchvision/inception_v3", flavor=torchvision, count_padding=True)
keras = KERAS._replace(norm_scale=False)
inception_v3("keras/InceptionV3", flavor=keras, count_padding=False, aux_logits=False, drop_rate=0.0)

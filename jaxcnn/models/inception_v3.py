"""Inception v3.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision. CVPR 2016,
arXiv:1512.00567; table 1 and figures 5 to 8 and 10. The modules have the names of TensorFlow's slim, and its widths,
which the paper leaves open. Initialised as the library does: torchvision draws kernels normal, σ = 0.1; Keras by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import (
    AVERAGE_POOL,
    BatchNorm,
    Branches,
    Conv,
    Pool,
    average_pool,
    conv,
    global_average_pool,
    linear,
    sequence,
)
from jaxcnn.models.googlenet import transformed
from jaxcnn.models.registry import check_images, variant

MAX_POOL = Pool("max", stride=2, padding=0)
STEM = (Conv(32, 3, 2, 0), Conv(32, 3, 1, 0), Conv(64, 3), MAX_POOL, Conv(80), Conv(192, 3, 1, 0), MAX_POOL)


def module_a(pooled: int) -> tuple:
    """Figure 5, with a 5×5 convolution left."""
    return (Conv(64),), (Conv(48), Conv(64, 5)), (Conv(64), Conv(96, 3), Conv(96, 3)), (AVERAGE_POOL, Conv(pooled))


def module_b(width: int) -> tuple:
    """Figure 6: 7×7 convolutions factorised into 1×7 and 7×1."""
    flat, tall = (1, 7), (7, 1)
    return (
        (Conv(192),),
        (Conv(width), Conv(width, flat), Conv(192, tall)),
        (Conv(width), Conv(width, tall), Conv(width, flat), Conv(width, tall), Conv(192, flat)),
        (AVERAGE_POOL, Conv(192)),
    )


def module_c() -> tuple:
    """Figure 7: 1×3 beside 3×1."""
    pair = (Conv(384, (1, 3)), Conv(384, (3, 1)))
    return (Conv(320),), (Conv(384), pair), (Conv(448), Conv(384, 3), pair), (AVERAGE_POOL, Conv(192))


REDUCTION_A = ((Conv(384, 3, 2, 0),), (Conv(64), Conv(96, 3), Conv(96, 3, 2, 0)), (MAX_POOL,))
REDUCTION_B = (
    (Conv(192), Conv(320, 3, 2, 0)),
    (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2, 0)),
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
    """A classifier of what the second stage gives (figure 8)."""

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


class InceptionV3(nn.Module):
    """Stem, eleven inception modules in three stages, global average pool, dropout, linear head.

    In training, with `aux_logits`, the auxiliary logits are sown as ("auxiliary", "aux"), and the trainer adds their loss;
    that takes images of 299×299. `transform_input` takes images normalised as other torchvision networks want them.
    `freeze_norm` uses the running statistics in training too.
    """

    flavour: Literal["torchvision", "keras"]
    num_classes: int = 1000
    aux_logits: bool = True
    transform_input: bool = False
    dropout: float = 0.5
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 2048) features if num_classes is 0."""
        check_images(self, images, at_least=75)
        keras = self.flavour == "keras"
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        if keras:
            norm = partial(norm, momentum=0.01, unbiased=False, use_scale=False)
        init = nn.initializers.glorot_uniform() if keras else nn.initializers.normal(0.1)
        layers: dict[str, Any] = {
            "conv": partial(conv, kernel_init=init, dtype=self.dtype),
            "norm": norm,
            "count_padding": not keras,
        }

        x = transformed(self, images) if self.transform_input else images
        x = sequence(x, STEM, prefix="stem_", **layers)
        self.sow("intermediates", "stem", x)
        for stage, modules in enumerate(STAGES, start=1):
            for name, branches in modules.items():
                x = Branches(branches, name=name, **layers)(x)
            self.sow("intermediates", f"stage{stage}", x)
            if stage == 2 and self.aux_logits and self.num_classes > 0:
                self._auxiliary(x, layers["conv"], norm, images.shape, train)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        zeros = nn.initializers.zeros if keras else None
        return linear(2048, self.num_classes, kernel_init=init, bias_init=zeros, name="head")(x)

    def _auxiliary(self, x, conv, norm, shape, train):
        """Its parameters are there whatever the mode; it computes only in training, where its logits are asked for."""
        asked = train and self.is_mutable_collection("auxiliary") and not self.is_initializing()
        if asked and min(x.shape[1:3]) < 17:
            raise UserError(
                f"{shape[1]}×{shape[2]} is too small for the auxiliary head of inception_v3 in training: "
                "at least 299×299, or aux_logits=False"
            )
        if asked or self.is_initializing():
            logits = AuxiliaryHead(self.num_classes, conv, norm, name="aux_head")(x)
            if asked:
                self.sow("auxiliary", "aux", logits)


inception_v3 = partial(variant, module=InceptionV3, image_size=299, paper="arXiv:1512.00567")
inception_v3("torchvision/inception_v3", flavour="torchvision")  # 27.2 M parameters, 23.8 M without the auxiliary head
inception_v3("keras/InceptionV3", flavour="keras", aux_logits=False, dropout=0.0)

"""GoogLeNet.

Szegedy, Liu, Jia et al.: Going Deeper with Convolutions. CVPR 2015, arXiv:1409.4842; table 1.
As torchvision's: batch norm after each convolution, where the paper normalises responses twice; 3×3 convolutions where
the paper has 5×5 (TensorFlow's released weights, from which torchvision's are, have that mistake). Its count, 6.6 M
parameters, is without the auxiliary heads. Initialised as torchvision does: every kernel normal, σ = 0.01.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import (
    BatchNorm,
    Branches,
    Conv,
    Pool,
    adaptive_average_pool,
    conv,
    global_average_pool,
    linear,
    max_pool,
    sequence,
)
from jaxcnn.models.registry import check_images, variant

STEM = (Conv(64, 7, 2), Pool("max", stride=2, padding=0), Conv(64), Conv(192, 3), Pool("max", stride=2, padding=0))


def inception(ones: int, reduce3: int, threes: int, reduce5: int, fives: int, pooled: int) -> tuple:
    """The columns of table 1 (figure 2b); "fives" have 3×3 kernels, see above."""
    return (Conv(ones),), (Conv(reduce3), Conv(threes, 3)), (Conv(reduce5), Conv(fives, 3)), (Pool("max"), Conv(pooled))


STAGES = (
    {"3a": inception(64, 96, 128, 16, 32, 32), "3b": inception(128, 128, 192, 32, 96, 64)},
    {
        "4a": inception(192, 96, 208, 16, 48, 64),
        "4b": inception(160, 112, 224, 24, 64, 64),
        "4c": inception(128, 128, 256, 24, 64, 64),
        "4d": inception(112, 144, 288, 32, 64, 64),
        "4e": inception(256, 160, 320, 32, 128, 128),
    },
    {"5a": inception(256, 160, 320, 32, 128, 128), "5b": inception(384, 192, 384, 48, 128, 128)},
)


class AuxiliaryHead(nn.Module):
    """A classifier of inner features, so that a gradient reaches the first layers (the paper's section 5)."""

    num_classes: int
    dropout: float
    kernel_init: jax.nn.initializers.Initializer
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x, *, train):
        """(N, H, W, C) -> (N, num_classes) float32."""
        x = adaptive_average_pool(x, 4)
        x = self.norm(name="norm", activation=nn.relu)(self.conv(128, 1, name="conv")(x))
        x = x.astype(jnp.float32).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # flattened as torchvision's weights want
        x = nn.relu(linear(x.shape[-1], 1024, kernel_init=self.kernel_init, name="fc1")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return linear(1024, self.num_classes, kernel_init=self.kernel_init, name="fc2")(x)


def transformed(model: nn.Module, images: jax.Array) -> jax.Array:
    """Images normalised by ImageNet's mean and deviation -> by 0.5 and 0.5, as TensorFlow's weights want them."""
    if images.shape[-1] != 3:
        raise UserError(f"transform_input is for images of 3 channels, not {images.shape[-1]}")
    mean, std = (jnp.asarray(v, images.dtype).reshape(1, 1, 1, 3) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images * std + mean - 0.5) / 0.5


class GoogLeNet(nn.Module):
    """Stem, nine inception modules in three stages, global average pool, dropout, linear head.

    In training, with `aux_logits`, the auxiliary logits are sown as ("auxiliary", "aux1" and "aux2"), and the trainer adds
    their losses. `transform_input` takes images normalised as other torchvision networks want them. The "small" stem
    keeps the size of images of about 32×32: a 3×3 convolution without stride, and no pooling. `freeze_norm` uses the
    running statistics in training too.
    """

    num_classes: int = 1000
    aux_logits: bool = True
    transform_input: bool = False
    dropout: float = 0.2
    dropout_aux: float = 0.7
    stem: Literal["imagenet", "small"] = "imagenet"
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 1024) features if num_classes is 0."""
        check_images(self, images, at_least=15 if self.stem == "imagenet" else 2)
        init = nn.initializers.normal(0.01)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        layers: dict[str, Any] = {"conv": partial(conv, kernel_init=init, dtype=self.dtype), "norm": norm}

        stem = STEM if self.stem == "imagenet" else (Conv(64, 3), Conv(64), Conv(192, 3))
        x = transformed(self, images) if self.transform_input else images
        x = sequence(x, stem, prefix="stem_", ceil_mode=True, **layers)
        self.sow("intermediates", "stem", x)
        for stage, modules in enumerate(STAGES, start=1):
            for name, branches in modules.items():
                x = Branches(branches, name=f"inception{name}", **layers)(x)
                if name in ("4a", "4d") and self._has_auxiliary(train):
                    aux = "aux1" if name == "4a" else "aux2"
                    logits = AuxiliaryHead(self.num_classes, self.dropout_aux, init, name=f"{aux}_head", **layers)(
                        x, train=train
                    )
                    if not self.is_initializing():
                        self.sow("auxiliary", aux, logits)
            self.sow("intermediates", f"stage{stage}", x)
            if stage < 3:
                x = max_pool(x, 3 if stage == 1 else 2, 2, ceil_mode=True)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return linear(1024, self.num_classes, kernel_init=init, name="head")(x)

    def _has_auxiliary(self, train):
        """Their parameters are there whatever the mode; they compute only in training, where their logits are asked for."""
        return (
            self.aux_logits
            and self.num_classes > 0
            and (self.is_initializing() or (train and self.is_mutable_collection("auxiliary")))
        )


# 13.0 M parameters, 6.6 M of them without the auxiliary heads
variant("torchvision/googlenet", GoogLeNet, image_size=224, paper="arXiv:1409.4842")

"""Inception v4.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261; figures 3 to 9. The modules have the names of TensorFlow's slim. Without the auxiliary head
that the paper's figures leave out too. Initialised as timm does, with PyTorch's own: uniform within ±1/sqrt(fan in).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import AVERAGE_POOL, BatchNorm, Branches, Conv, conv, global_average_pool, linear, sequence
from jaxcnn.models.inception_v3 import MAX_POOL
from jaxcnn.models.registry import check_images, variant

FLAT, TALL = (1, 7), (7, 1)
STEM = (Conv(32, 3, 2, 0), Conv(32, 3, 1, 0), Conv(64, 3))
MODULE_A = (  # figure 4
    (Conv(96),),
    (Conv(64), Conv(96, 3)),
    (Conv(64), Conv(96, 3), Conv(96, 3)),
    (AVERAGE_POOL, Conv(96)),
)
MODULE_B = (  # figure 5
    (Conv(384),),
    (Conv(192), Conv(224, FLAT), Conv(256, TALL)),
    (Conv(192), Conv(192, TALL), Conv(224, FLAT), Conv(224, TALL), Conv(256, FLAT)),
    (AVERAGE_POOL, Conv(128)),
)
PAIR = (Conv(256, (1, 3)), Conv(256, (3, 1)))
MODULE_C = (  # figure 6
    (Conv(256),),
    (Conv(384), PAIR),
    (Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3)), PAIR),
    (AVERAGE_POOL, Conv(256)),
)
STAGES: tuple[dict[str, tuple], ...] = (
    {  # figure 3, the end of the stem; then 35×35
        "mixed_3a": ((MAX_POOL,), (Conv(96, 3, 2, 0),)),
        "mixed_4a": (
            (Conv(64), Conv(96, 3, 1, 0)),
            (Conv(64), Conv(64, FLAT), Conv(64, TALL), Conv(96, 3, 1, 0)),
        ),
        "mixed_5a": ((Conv(192, 3, 2, 0),), (MAX_POOL,)),
    }
    | {f"mixed_5{letter}": MODULE_A for letter in "bcde"},
    {  # figure 7, then 17×17
        "mixed_6a": ((Conv(384, 3, 2, 0),), (Conv(192), Conv(224, 3), Conv(256, 3, 2, 0)), (MAX_POOL,)),
    }
    | {f"mixed_6{letter}": MODULE_B for letter in "bcdefgh"},
    {  # figure 8, then 8×8
        "mixed_7a": (
            (Conv(192), Conv(192, 3, 2, 0)),
            (Conv(256), Conv(256, FLAT), Conv(320, TALL), Conv(320, 3, 2, 0)),
            (MAX_POOL,),
        ),
    }
    | {f"mixed_7{letter}": MODULE_C for letter in "bcd"},
)


class InceptionV4(nn.Module):
    """Stem, 4, 7 and 3 inception modules with reductions between, global average pool, dropout, linear head.

    `drop_rate` is the dropout's, 0.2 in the paper. `freeze_norm` uses the running statistics in training too.
    """

    num_classes: int = 1000
    drop_rate: float = 0.0
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 1536) features if num_classes is 0."""
        check_images(self, images, at_least=75)
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        layers: dict[str, Any] = {
            "conv": partial(conv, kernel_init=init, dtype=self.dtype),
            "norm": norm,
            "count_padding": False,
        }

        x = sequence(images, STEM, prefix="stem_", **layers)
        self.sow("intermediates", "stem", x)
        for stage, modules in enumerate(STAGES, start=1):
            for name, branches in modules.items():
                x = Branches(branches, name=name, **layers)(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return linear(1536, self.num_classes, name="head")(x)


inception_v4 = partial(variant, image_size=299, paper="arXiv:1602.07261")
inception_v4("inception_v4", InceptionV4, drop_rate=0.2)  # 42.7 M parameters
inception_v4("timm/inception_v4", InceptionV4)

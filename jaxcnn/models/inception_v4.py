"""Inception v4.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261; figures 3 to 9. The modules have the names of TensorFlow's slim. Without the auxiliary head
that the paper's figures leave out too. Initialised as timm does, with PyTorch's own: uniform within ±1/sqrt(fan in).
"""

from functools import partial

from jaxcnn.layers import AVERAGE_POOL, Conv
from jaxcnn.models.inception import Inception
from jaxcnn.models.inception_v3 import MAX_POOL
from jaxcnn.models.network import PYTORCH
from jaxcnn.models.registry import variant

FLAT, TALL, PAIR = (1, 7), (7, 1), (Conv(256, (1, 3)), Conv(256, (3, 1)))
STEM = (Conv(32, 3, 2, 0), Conv(32, 3, 1, 0), Conv(64, 3))
# figures 4, 5 and 6
MODULE_A = (Conv(96),), (Conv(64), Conv(96, 3)), (Conv(64), Conv(96, 3), Conv(96, 3)), (AVERAGE_POOL, Conv(96))
MODULE_B = (
    (Conv(384),),
    (Conv(192), Conv(224, FLAT), Conv(256, TALL)),
    (Conv(192), Conv(192, TALL), Conv(224, FLAT), Conv(224, TALL), Conv(256, FLAT)),
    (AVERAGE_POOL, Conv(128)),
)
MODULE_C = (
    (Conv(256),),
    (Conv(384), PAIR),
    (Conv(384), Conv(448, (3, 1)), Conv(512, (1, 3)), PAIR),
    (AVERAGE_POOL, Conv(256)),
)


def reduction_a(first: int, second: int, third: int) -> dict[str, tuple]:
    """Figure 7; the widths are k, l and m of table 1, whose n is 384 in all networks here."""
    return {"mixed_6a": ((Conv(384, 3, 2, 0),), (Conv(first), Conv(second, 3), Conv(third, 3, 2, 0)), (MAX_POOL,))}


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
    reduction_a(192, 224, 256)  # then 17×17
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


class InceptionV4(Inception):
    """4, 7 and 3 inception modules with reductions between."""

    smallest = 75
    stem_steps = STEM
    stages = STAGES


TIMM = PYTORCH._replace(epsilon=1e-3)  # of both versions
inception_v4 = partial(variant, module=InceptionV4, flavour=TIMM, count_padding=False, image_size=299, paper="arXiv:1602.07261")
inception_v4("inception_v4", drop_rate=0.2)  # 42.7 M parameters; the paper's rate
inception_v4("timm/inception_v4")

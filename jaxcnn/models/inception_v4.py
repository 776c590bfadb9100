"""Inception v4.

Szegedy, Ioffe, Vanhoucke, Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning.
AAAI 2017, arXiv:1602.07261; figures 3 to 9. Modules have the names of TensorFlow-Slim. There is no auxiliary head, as in the
paper's figures. Initialized as in timm by PyTorch's default: uniform within ±1/sqrt(fan in).
"""

from functools import partial

from jaxcnn.layers import AVERAGE_POOL, ConvSpec
from jaxcnn.models.inception import Inception
from jaxcnn.models.inception_v3 import MAX_POOL
from jaxcnn.models.network import PYTORCH
from jaxcnn.models.registry import variant

FLAT, TALL, PAIR = (1, 7), (7, 1), (ConvSpec(256, (1, 3)), ConvSpec(256, (3, 1)))
STEM = (ConvSpec(32, 3, 2, 0), ConvSpec(32, 3, 1, 0), ConvSpec(64, 3))
# figures 4, 5 and 6
MODULE_A = (
    (ConvSpec(96),),
    (ConvSpec(64), ConvSpec(96, 3)),
    (ConvSpec(64), ConvSpec(96, 3), ConvSpec(96, 3)),
    (AVERAGE_POOL, ConvSpec(96)),
)
MODULE_B = (
    (ConvSpec(384),),
    (ConvSpec(192), ConvSpec(224, FLAT), ConvSpec(256, TALL)),
    (ConvSpec(192), ConvSpec(192, TALL), ConvSpec(224, FLAT), ConvSpec(224, TALL), ConvSpec(256, FLAT)),
    (AVERAGE_POOL, ConvSpec(128)),
)
MODULE_C = (
    (ConvSpec(256),),
    (ConvSpec(384), PAIR),
    (ConvSpec(384), ConvSpec(448, (3, 1)), ConvSpec(512, (1, 3)), PAIR),
    (AVERAGE_POOL, ConvSpec(256)),
)


def reduction_a(first: int, second: int, third: int) -> dict[str, tuple]:
    """Figure 7. The arguments are k, l and m of table 1; n is 384 in all of these networks."""
    return {
        "mixed_6a": ((ConvSpec(384, 3, 2, 0),), (ConvSpec(first), ConvSpec(second, 3), ConvSpec(third, 3, 2, 0)), (MAX_POOL,))
    }


STAGES: tuple[dict[str, tuple], ...] = (
    {  # figure 3, the end of the stem; then modules at 35×35
        "mixed_3a": ((MAX_POOL,), (ConvSpec(96, 3, 2, 0),)),
        "mixed_4a": (
            (ConvSpec(64), ConvSpec(96, 3, 1, 0)),
            (ConvSpec(64), ConvSpec(64, FLAT), ConvSpec(64, TALL), ConvSpec(96, 3, 1, 0)),
        ),
        "mixed_5a": ((ConvSpec(192, 3, 2, 0),), (MAX_POOL,)),
    }
    | {f"mixed_5{letter}": MODULE_A for letter in "bcde"},
    reduction_a(192, 224, 256)  # then modules at 17×17
    | {f"mixed_6{letter}": MODULE_B for letter in "bcdefgh"},
    {  # figure 8; then modules at 8×8
        "mixed_7a": (
            (ConvSpec(192), ConvSpec(192, 3, 2, 0)),
            (ConvSpec(256), ConvSpec(256, FLAT), ConvSpec(320, TALL), ConvSpec(320, 3, 2, 0)),
            (MAX_POOL,),
        ),
    }
    | {f"mixed_7{letter}": MODULE_C for letter in "bcd"},
)


class InceptionV4(Inception):
    """Stages of 4, 7 and 3 inception modules with reduction modules between them."""

    smallest = 75
    stem_specs = STEM
    stages = STAGES


TIMM = PYTORCH._replace(epsilon=1e-3)  # for Inception v4 and Inception-ResNet
inception_v4 = partial(variant, module=InceptionV4, flavor=TIMM, count_padding=False, image_size=299, paper="arXiv:1602.07261")
inception_v4("inception_v4", drop_rate=0.2)  # 42.7 M parameters; the paper's rate
inception_v4("timm/inception_v4")

"""MobileNet, version 3.

Howard et al.: Searching for MobileNetV3. ICCV 2019, arXiv:1905.02244; tables 1 and 2. Initialised as torchvision (He, fan
out; head normal) or Keras (Glorot uniform) does it.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import (
    KERAS,
    TORCHVISION,
    Activation,
    Row,
    Stages,
    divisible,
    from_expanded,
    make_blocks,
    rows_of,
)
from jaxcnn.models.mobile_network import MobileNetwork, Plan
from jaxcnn.models.registry import variant

LARGE: Stages = (
    Row("separable", 3, 1, 1, 16, activation=nn.relu),
    (Row("inverted", 3, 2, 4, 24, activation=nn.relu), Row("inverted", 3, 1, 3, 24, activation=nn.relu)),
    Row("inverted", 5, 2, 3, 40, 3, 0.25, nn.relu),
    (Row("inverted", 3, 2, 6, 80), Row("inverted", 3, 1, 2.5, 80), Row("inverted", 3, 1, 2.3, 80, 2)),
    Row("inverted", 3, 1, 6, 112, 2, 0.25),
    Row("inverted", 5, 2, 6, 160, 3, 0.25),
)
SMALL: Stages = (
    Row("separable", 3, 2, 1, 16, 1, 0.25, nn.relu),
    (Row("inverted", 3, 2, 72 / 16, 24, activation=nn.relu), Row("inverted", 3, 1, 88 / 24, 24, activation=nn.relu)),
    (Row("inverted", 5, 2, 4, 40, 1, 0.25), Row("inverted", 5, 1, 6, 40, 2, 0.25)),
    Row("inverted", 5, 1, 3, 48, 2, 0.25),
    Row("inverted", 5, 2, 6, 96, 3, 0.25),
)


def plan(stages: Stages, hidden: int, activation: Activation, factor: float, dropout: float) -> Plan:
    """`factor` times as many channels, in multiples of 8; stem and hidden layer are never made smaller."""
    blocks = make_blocks(stages, 16, activation, width=lambda c: divisible(c * factor), squeezed=from_expanded)
    return Plan(
        16,
        blocks,
        activation,
        last=divisible(6 * blocks[-1].width),
        hidden=divisible(hidden * max(1.0, factor)),
        dropout=dropout,
        squeeze_activation=nn.relu,
        gate=nn.hard_sigmoid,
    )


class MobileNetV3(MobileNetwork, kw_only=True):
    """torchvision's."""

    stages: Stages
    hidden: int
    dropout: float = 0.2

    def plan(self) -> Plan:
        """The network that these fields make."""
        return plan(self.stages, self.hidden, nn.hard_swish, 1.0, self.dropout)


class KerasMobileNetV3(MobileNetwork, kw_only=True):
    """Keras's, `alpha` times as wide; takes pixels, 0 to 255, unless `include_preprocessing` is off.

    `minimalistic` is without squeeze-excitation, hard swish and 5×5 convolutions.
    """

    stages: Stages
    hidden: int
    alpha: float = 1.0
    minimalistic: bool = False
    include_preprocessing: bool = True
    dropout_rate: float = 0.2

    def preprocess(self, images):
        """(N, H, W, C) pixels -> as the stem takes them."""
        return images / 127.5 - 1 if self.include_preprocessing else images

    def plan(self) -> Plan:
        """The network that these fields make."""
        stages, activation = self.stages, nn.hard_swish
        if self.minimalistic:
            stages = tuple(tuple(row._replace(kernel=3, squeeze_excite=0) for row in rows_of(stage)) for stage in stages)
            activation = nn.relu  # so are the rows that name one
        return plan(stages, self.hidden, activation, self.alpha, self.dropout_rate)


_TORCHVISION = TORCHVISION._replace(epsilon=1e-3, momentum=0.01)
mobilenet_v3 = partial(variant, image_size=224, paper="arXiv:1905.02244")
mobilenet_v3("torchvision/mobilenet_v3_large", MobileNetV3, flavour=_TORCHVISION, stages=LARGE, hidden=1280)  # 5.5 M parameters
mobilenet_v3("torchvision/mobilenet_v3_small", MobileNetV3, flavour=_TORCHVISION, stages=SMALL, hidden=1024)  # 2.5 M
_KERAS = KERAS._replace(momentum=0.001, conv_hidden=True, conv_head=True)
mobilenet_v3("keras/MobileNetV3Large", KerasMobileNetV3, flavour=_KERAS, stages=LARGE, hidden=1280)  # 5.5 M
mobilenet_v3("keras/MobileNetV3Small", KerasMobileNetV3, flavour=_KERAS, stages=SMALL, hidden=1024)  # 2.6 M

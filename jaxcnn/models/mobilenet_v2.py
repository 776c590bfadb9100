"""MobileNet, version 2.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018, arXiv:1801.04381;
table 2. Initialised as torchvision (He, fan out; head normal) or Keras (Glorot uniform) does it.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import KERAS, TORCHVISION, Row, Stages, divisible, make_blocks
from jaxcnn.models.mobile_network import MobileNetwork, Plan
from jaxcnn.models.registry import variant

STAGES: Stages = (
    Row("separable", 3, 1, 1, 16),
    Row("inverted", 3, 2, 6, 24, 2),
    Row("inverted", 3, 2, 6, 32, 3),
    Row("inverted", 3, 2, 6, 64, 4),
    Row("inverted", 3, 1, 6, 96, 3),
    Row("inverted", 3, 2, 6, 160, 3),
    Row("inverted", 3, 1, 6, 320),
)


def plan(factor: float, width: Callable[[int], int], dropout: float) -> Plan:
    """`factor` times as many channels, in multiples of 8; the last convolution is never made smaller."""
    stem = divisible(32 * factor)
    blocks = make_blocks(STAGES, stem, nn.relu6, width=width)
    return Plan(stem, blocks, nn.relu6, last=divisible(1280 * max(1.0, factor)), dropout=dropout)


class MobileNetV2(MobileNetwork, kw_only=True):
    """torchvision's."""

    width_mult: float = 1.0
    dropout: float = 0.2

    def plan(self) -> Plan:
        """The network that these fields make."""
        return plan(self.width_mult, lambda channels: divisible(channels * self.width_mult), self.dropout)


class KerasMobileNetV2(MobileNetwork, kw_only=True):
    """Keras's, for images between -1 and 1; it has no dropout."""

    alpha: float = 1.0

    def plan(self) -> Plan:
        """The network that these fields make."""
        return plan(self.alpha, lambda channels: divisible(int(channels * self.alpha)), dropout=0.0)


mobilenet_v2 = partial(variant, image_size=224, paper="arXiv:1801.04381")
mobilenet_v2("torchvision/mobilenet_v2", MobileNetV2, flavour=TORCHVISION)  # 3.5 M parameters
mobilenet_v2("keras/MobileNetV2", KerasMobileNetV2, flavour=KERAS._replace(momentum=0.001))  # 3.5 M

"""MobileNet V2.

Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018, arXiv:1801.04381;
table 2. Initialized as in torchvision (He, fan out; head normal) or Keras (Glorot uniform).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import Design, Row, divisible, wider
from jaxcnn.models.mobile_network import KERAS, TORCHVISION, MobileNetwork
from jaxcnn.models.registry import variant

STAGES = (
    Row("separable", 3, 1, 1, 16),
    Row("inverted", 3, 2, 6, 24, 2),
    Row("inverted", 3, 2, 6, 32, 3),
    Row("inverted", 3, 2, 6, 64, 4),
    Row("inverted", 3, 1, 6, 96, 3),
    Row("inverted", 3, 2, 6, 160, 3),
    Row("inverted", 3, 1, 6, 320),
)


def _scaled(design: Design, factor: float, width: Callable[[int], int]) -> Design:
    """Multiplies channels by `factor`, in multiples of 8. The last convolution is never reduced."""
    return design.scaled(width)._replace(stem=divisible(design.stem * factor), last=divisible(design.last * max(1.0, factor)))


class MobileNetV2(MobileNetwork, kw_only=True):
    """torchvision's MobileNet V2, with widths multiplied by `width_mult`."""

    width_mult: float = 1.0
    drop_rate: float = 0.2

    def plan(self) -> Design:
        """Returns the design with scaled channels."""
        return _scaled(self.design, self.width_mult, wider(self.width_mult))


class KerasMobileNetV2(MobileNetwork, kw_only=True):
    """Keras's MobileNet V2, with widths multiplied by `alpha`, for images between -1 and 1."""

    alpha: float = 1.0

    def plan(self) -> Design:
        """Returns the design with scaled channels."""
        return _scaled(self.design, self.alpha, lambda channels: divisible(int(channels * self.alpha)))


mobilenet_v2 = partial(variant, design=Design(STAGES, 32, 1280, nn.relu6), image_size=224, paper="arXiv:1801.04381")
mobilenet_v2("torchvision/mobilenet_v2", MobileNetV2, flavor=TORCHVISION)  # 3.5 M parameters
mobilenet_v2("keras/MobileNetV2", KerasMobileNetV2, flavor=KERAS._replace(momentum=0.001))  # 3.5 M

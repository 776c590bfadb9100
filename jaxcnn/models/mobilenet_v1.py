"""MobileNet, version 1.

Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications. 2017, arXiv:1704.04861;
table 1. ReLU6 instead of ReLU, as in all published weights. The plain ones are the paper's widths, as published by its
authors (TensorFlow's SAME padding); Keras pads a depthwise convolution with stride at the far side only, which is the same
unless a size is odd. Both are initialised as Keras does (Glorot uniform), and take images between -1 and 1.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import KERAS, TIMM, Row, Stages, divisible, make_blocks
from jaxcnn.models.mobile_network import Design, MobileNetwork, Plan, TimmNetwork
from jaxcnn.models.registry import variant

STAGES: Stages = (
    Row("separable_activated", 3, 1, 1, 64),
    Row("separable_activated", 3, 2, 1, 128, 2),
    Row("separable_activated", 3, 2, 1, 256, 2),
    Row("separable_activated", 3, 2, 1, 512, 6),
    Row("separable_activated", 3, 2, 1, 1024, 2),
)


class MobileNetV1(MobileNetwork, kw_only=True):
    """`alpha` times as many channels everywhere."""

    alpha: float = 1.0
    dropout: float = 1e-3

    @property
    def smallest(self) -> int:
        """In Keras's, a single pixel padded to two has no 3×3 window."""
        return 31 if self.flavour.strided_padding else 1

    def plan(self) -> Plan:
        """The network that these fields make."""

        def width(channels):
            return max(1, int(channels * self.alpha))

        blocks = make_blocks(STAGES, width(32), nn.relu6, width=width)
        return Plan(width(32), blocks, nn.relu6, dropout=self.dropout)


mobilenet_v1 = partial(variant, image_size=224, paper="arXiv:1704.04861")
_FAR = KERAS._replace(conv_head=True, strided_padding=((0, 1), (0, 1)))
mobilenet_v1("keras/MobileNet", MobileNetV1, flavour=_FAR)  # 4.2 M parameters
_SAME = KERAS._replace(conv_head=True)
mobilenet_v1("mobilenet_v1_100", MobileNetV1, flavour=_SAME, alpha=1.0)  # 4.2 M
mobilenet_v1("mobilenet_v1_075", MobileNetV1, flavour=_SAME, alpha=0.75)  # 2.6 M
mobilenet_v1("mobilenet_v1_050", MobileNetV1, flavour=_SAME, alpha=0.5)  # 1.3 M
mobilenet_v1("mobilenet_v1_025", MobileNetV1, flavour=_SAME, alpha=0.25)  # 0.5 M

for _percent in (100, 125):
    _factor = _percent / 100
    _design = Design(STAGES, divisible(32 * _factor), 0, nn.relu6, _factor)
    mobilenet_v1(f"timm/mobilenetv1_{_percent}", TimmNetwork, flavour=TIMM, design=_design)

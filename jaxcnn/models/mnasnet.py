"""MnasNet-B1, without squeeze-excitation.

Tan et al.: MnasNet: Platform-Aware Neural Architecture Search for Mobile. CVPR 2019, arXiv:1807.11626; figure 7, as
torchvision has it. The norms' slow momentum is the paper's, 1 - 0.9997: a short training is better evaluated with another.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import TORCHVISION, Row, Stages, divisible
from jaxcnn.models.mobile_network import Design, MobileNetwork, Plan
from jaxcnn.models.registry import variant

STAGES: Stages = (
    Row("separable", 3, 1, 1, 16),
    Row("inverted", 3, 2, 3, 24, 3),
    Row("inverted", 5, 2, 3, 40, 3),
    Row("inverted", 5, 2, 6, 80, 3),
    Row("inverted", 3, 1, 6, 96, 2),
    Row("inverted", 5, 2, 6, 192, 4),
    Row("inverted", 3, 1, 6, 320),
)


class MNASNet(MobileNetwork, kw_only=True):
    """`width` times as many channels, in multiples of 8; the last convolution keeps its 1280."""

    width: float
    dropout: float = 0.2

    def plan(self) -> Plan:
        """The network that these fields make."""
        return Design(STAGES, divisible(32 * self.width), 1280, nn.relu, self.width).plan(self.dropout, drop_rate=0.0)


_UNIFORM = nn.initializers.variance_scaling(1, "fan_out", "uniform")
_FLAVOUR = TORCHVISION._replace(momentum=1 - 0.9997, head_init=_UNIFORM)
mnasnet = partial(variant, image_size=224, paper="arXiv:1807.11626")
mnasnet("torchvision/mnasnet0_5", MNASNet, flavour=_FLAVOUR, width=0.5)  # 2.2 M parameters
mnasnet("torchvision/mnasnet0_75", MNASNet, flavour=_FLAVOUR, width=0.75)  # 3.2 M
mnasnet("torchvision/mnasnet1_0", MNASNet, flavour=_FLAVOUR, width=1.0)  # 4.4 M
mnasnet("torchvision/mnasnet1_3", MNASNet, flavour=_FLAVOUR, width=1.3)  # 6.3 M

"""MnasNet-B1, which has no squeeze-and-excitation.

Tan et al.: MnasNet: Platform-Aware Neural Architecture Search for Mobile. CVPR 2019, arXiv:1807.11626; figure 7, as
in torchvision. The momentum of norms, 1 - 0.9997, is the paper's. With it, running statistics adapt too slowly for short runs.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import Design, Row, wider
from jaxcnn.models.mobile_network import TORCHVISION, MobileNetwork
from jaxcnn.models.registry import variant

STAGES = (
    Row("separable", 3, 1, 1, 16),
    Row("inverted", 3, 2, 3, 24, 3),
    Row("inverted", 5, 2, 3, 40, 3),
    Row("inverted", 5, 2, 6, 80, 3),
    Row("inverted", 3, 1, 6, 96, 2),
    Row("inverted", 5, 2, 6, 192, 4),
    Row("inverted", 3, 1, 6, 320),
)


_UNIFORM = nn.initializers.variance_scaling(1, "fan_out", "uniform")
_FLAVOR = TORCHVISION._replace(momentum=1 - 0.9997, head_init=_UNIFORM)
mnasnet = partial(variant, module=MobileNetwork, flavor=_FLAVOR, drop_rate=0.2, image_size=224, paper="arXiv:1807.11626")
for _name, _factor in (("0_5", 0.5), ("0_75", 0.75), ("1_0", 1.0), ("1_3", 1.3)):  # 2.2, 3.2, 4.4, 6.3 M parameters
    _width = wider(_factor)
    mnasnet(f"torchvision/mnasnet{_name}", design=Design(STAGES, _width(32), 1280, nn.relu).scaled(_width))

"""MobileNet V4: the variants without attention.

Qin et al.: MobileNetV4: Universal Models for the Mobile Ecosystem. ECCV 2024, arXiv:2404.10518; tables 11 to 13, as in timm.
The last convolution follows the pool and has a norm.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import Design, Row
from jaxcnn.models.mobile_network import TIMM, MobileNetwork
from jaxcnn.models.registry import variant


def _row(start: int, kernel: int, stride: int, expansion: float, width: int, repeats: int = 1) -> Row:
    """Returns universal inverted bottlenecks. `start` and `kernel` are the sizes of their depthwise convolutions; 0: none."""
    return Row("universal", kernel, stride, expansion, width, repeats, start_kernel=start)


SMALL = (
    (Row("conv", 3, 2, 1, 32), Row("conv", 1, 1, 1, 32)),
    (Row("conv", 3, 2, 1, 96), Row("conv", 1, 1, 1, 64)),
    (_row(5, 5, 2, 3, 96), _row(0, 3, 1, 2, 96, 4), _row(3, 0, 1, 4, 96)),
    (_row(3, 3, 2, 6, 128), _row(5, 5, 1, 4, 128), _row(0, 5, 1, 4, 128), _row(0, 5, 1, 3, 128), _row(0, 3, 1, 4, 128, 2)),
    Row("conv", 1, 1, 1, 960),
)
MEDIUM = (
    Row("fused", 3, 2, 4, 48),
    (_row(3, 5, 2, 4, 80), _row(3, 3, 1, 2, 80)),
    (
        _row(3, 5, 2, 6, 160),
        _row(3, 3, 1, 4, 160, 2),
        _row(3, 5, 1, 4, 160),
        _row(3, 3, 1, 4, 160),
        _row(3, 0, 1, 4, 160),
        _row(0, 0, 1, 2, 160),
        _row(3, 0, 1, 4, 160),
    ),
    (
        _row(5, 5, 2, 6, 256),
        _row(5, 5, 1, 4, 256),
        _row(3, 5, 1, 4, 256, 2),
        _row(0, 0, 1, 4, 256),
        _row(3, 0, 1, 4, 256),
        _row(3, 5, 1, 2, 256),
        _row(5, 5, 1, 4, 256),
        _row(0, 0, 1, 4, 256, 2),
        _row(5, 0, 1, 2, 256),
    ),
    Row("conv", 1, 1, 1, 960),
)
LARGE = (
    Row("fused", 3, 2, 4, 48),
    (_row(3, 5, 2, 4, 96), _row(3, 3, 1, 4, 96)),
    (
        _row(3, 5, 2, 4, 192),
        _row(3, 3, 1, 4, 192, 3),
        _row(3, 5, 1, 4, 192),
        _row(5, 3, 1, 4, 192, 5),
        _row(3, 0, 1, 4, 192),
    ),
    (
        _row(5, 5, 2, 4, 512),
        _row(5, 5, 1, 4, 512, 3),
        _row(5, 0, 1, 4, 512),
        _row(5, 3, 1, 4, 512),
        _row(5, 0, 1, 4, 512, 2),
        _row(5, 3, 1, 4, 512),
        _row(5, 5, 1, 4, 512),
        _row(5, 0, 1, 4, 512, 3),
    ),
    Row("conv", 1, 1, 1, 960),
)


_design = partial(Design, last=0, activation=nn.relu, hidden=1280, hidden_norm=True, conv_hidden=True)
mobilenet_v4 = partial(variant, module=MobileNetwork, flavor=TIMM, paper="arXiv:2404.10518")
mobilenet_v4("timm/mobilenetv4_conv_small", design=_design(SMALL, 32), image_size=224)  # 3.8 M parameters
mobilenet_v4("timm/mobilenetv4_conv_medium", design=_design(MEDIUM, 32), image_size=256)  # 9.7 M
mobilenet_v4("timm/mobilenetv4_conv_large", design=_design(LARGE, 24), image_size=384)  # 32.6 M

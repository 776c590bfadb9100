"""Mobile networks of timm that torchvision and Keras do not have.

FBNet-C: Wu et al., CVPR 2019, arXiv:1812.03443. PP-LCNet: Cui et al., 2021, arXiv:2109.15099. TinyNet: Han et al., Model
Rubik's Cube, NeurIPS 2020, arXiv:2010.14819 (EfficientNet's table). MixNet: Tan, Le, BMVC 2019, arXiv:1907.09595.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.efficientnet import V1
from jaxcnn.models.mobile_blocks import Design, Row, wider
from jaxcnn.models.mobile_network import TIMM, TIMM_TF, MobileNetwork, WithoutShortcuts
from jaxcnn.models.registry import variant

FBNET_C = (
    Row("inverted", 3, 1, 1, 16),
    (Row("inverted", 3, 2, 6, 24), Row("inverted", 3, 1, 1, 24, 2)),
    (
        Row("inverted", 5, 2, 6, 32),
        Row("inverted", 5, 1, 3, 32),
        Row("inverted", 5, 1, 6, 32),
        Row("inverted", 3, 1, 6, 32),
    ),
    (Row("inverted", 5, 2, 6, 64), Row("inverted", 5, 1, 3, 64), Row("inverted", 5, 1, 6, 64, 2)),
    (Row("inverted", 5, 1, 6, 112, 3), Row("inverted", 5, 1, 3, 112)),
    Row("inverted", 5, 2, 6, 184, 4),
    Row("inverted", 3, 1, 6, 352),
)
LCNET = (
    Row("separable_activated", 3, 1, 1, 32),
    Row("separable_activated", 3, 2, 1, 64, 2),
    Row("separable_activated", 3, 2, 1, 128, 2),
    (Row("separable_activated", 3, 2, 1, 256), Row("separable_activated", 5, 1, 1, 256)),
    Row("separable_activated", 5, 1, 1, 256, 4),
    Row("separable_activated", 5, 2, 1, 512, 2, 0.25),
)
MIXNET_S = (
    Row("separable", 3, 1, 1, 16),
    (Row("inverted", 3, 2, 6, 24, groups=(2, 2)), Row("inverted", 3, 1, 3, 24, groups=(2, 2))),
    (
        Row("inverted", (3, 5, 7), 2, 6, 40, 1, 0.5, nn.silu),
        Row("inverted", (3, 5), 1, 6, 40, 3, 0.5, nn.silu, groups=(2, 2)),
    ),
    (
        Row("inverted", (3, 5, 7), 2, 6, 80, 1, 0.25, nn.silu, groups=(1, 2)),
        Row("inverted", (3, 5), 1, 6, 80, 2, 0.25, nn.silu, groups=(1, 2)),
    ),
    (
        Row("inverted", (3, 5, 7), 1, 6, 120, 1, 0.5, nn.silu, groups=(2, 2)),
        Row("inverted", (3, 5, 7, 9), 1, 3, 120, 2, 0.5, nn.silu, groups=(2, 2)),
    ),
    (
        Row("inverted", (3, 5, 7, 9, 11), 2, 6, 200, 1, 0.5, nn.silu),
        Row("inverted", (3, 5, 7, 9), 1, 6, 200, 2, 0.5, nn.silu, groups=(1, 2)),
    ),
)


def _lcnet(factor: float) -> Design:
    width = wider(factor)
    return Design(LCNET, width(16), 0, nn.hard_swish, hidden=1280, conv_hidden=True, hard_squeeze=True).scaled(width)


def _tinynet(width: float, depth: float) -> Design:
    wide = wider(width)
    return Design(V1, 32, max(1280, wide(1280)), nn.silu).scaled(wide, lambda repeats: max(1, round(repeats * depth)))


mobile = partial(variant, module=MobileNetwork, flavor=TIMM)

fbnet = partial(mobile, image_size=224, paper="arXiv:1812.03443")
fbnet("timm/fbnetc_100", design=Design(FBNET_C, 16, 1984, nn.relu))  # 5.6 M parameters

lcnet = partial(mobile, module=WithoutShortcuts, image_size=224, paper="arXiv:2109.15099")
lcnet("timm/lcnet_050", design=_lcnet(0.5))  # 1.9 M
lcnet("timm/lcnet_075", design=_lcnet(0.75))  # 2.4 M
lcnet("timm/lcnet_100", design=_lcnet(1.0))  # 3.0 M
lcnet("timm/lcnet_150", design=_lcnet(1.5))  # 4.5 M

tinynet = partial(mobile, paper="arXiv:2010.14819")
tinynet("timm/tinynet_a", design=_tinynet(1.0, 1.2), image_size=192)  # 6.2 M
tinynet("timm/tinynet_b", design=_tinynet(0.75, 1.1), image_size=188)  # 3.7 M

mixnet = partial(mobile, image_size=224, paper="arXiv:1907.09595", design=Design(MIXNET_S, 16, 1536, nn.relu))
mixnet("timm/mixnet_s")  # 4.1 M
mixnet("timm/tf_mixnet_s", flavor=TIMM_TF)  # 4.1 M

"""Names of one variant of each network."""

import pytest

from jaxcnn.models import list_models
from jaxcnn.models.registry import find

SMALLER = {"preact_resnet1001": "preact_resnet110", "keras/NASNetLarge": "keras/NASNetMobile"}
FIRST = {(find(name).module, find(name).paper): name for name in reversed(list_models())}  # one variant per network
DEEP = (  # variants that take seconds to trace
    "cbam_resnet101",
    "densenet121",
    "efficientnet_b0",
    "inception_resnet_v1",
    "inception_v3",
    "inception_v4",
    "keras/MobileNetV3Large",
    "keras/NASNetMobile",
    "keras/ResNet101",
    "keras/ResNet101V2",
    "preact_resnet110",
    "resnet101_v2",
    "timm/ecaresnet101d",
    "timm/resnetv2_101d",
    "timm/resnetv2_101x1_bit",
)
KINDS = sorted(SMALLER.get(name, name) for name in FIRST.values())
ONE_OF_EACH = [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in KINDS]

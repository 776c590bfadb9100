"""Golden files: parameter counts, logits and running statistics equal the reference's, on regenerated weights."""

import pytest
from common.promises import GOLDEN, check_golden

FILES = sorted(str(path.relative_to(GOLDEN)).removesuffix(".json.gz") for path in GOLDEN.glob("*/*.json.gz"))
QUICK = (  # the quickest of most families
    "torchvision/squeezenet1_1__97x65", "keras/VGG19__notop", "torchvision/resnet18__97x65", "torchvision/resnet18__train",
    "torchvision/shufflenet_v2_x0_5", "timm/convnextv2_atto__97x65", "torchvision/mobilenet_v2__97x65",
    "torchvision/mobilenet_v2__train", "keras/ResNet50V2__97x65", "timm/lcnet_050", "torchvision/googlenet__transform",
    "timm/seresnet18", "timm/resnet18d", "keras/MobileNet", "timm/ecaresnet26t", "keras/MobileNetV3Small__97x65",
    "timm/resnetblur18", "torchvision/inception_v3__transform", "keras/ResNet50", "timm/tf_efficientnetv2_b0__97x65",
    "torchvision/regnet_y_400mf", "timm/xception41__97x65", "timm/repvgg_a0__97x65",
)  # fmt: skip


def test_quick_files_exist():
    assert set(QUICK) <= set(FILES)


@pytest.mark.parametrize("file", [file if file in QUICK else pytest.param(file, marks=pytest.mark.slow) for file in FILES])
def test_network_equals_the_reference(file):
    check_golden(file)

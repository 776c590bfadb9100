"""Every golden file: the reference's parameter count, logits and running statistics, on weights rebuilt from a rule.

All of them take many minutes, so most only where JAXCNN_ALL_GOLDEN is set.
"""

import os

import pytest
from common.promises import GOLDEN, check_golden

FILES = sorted(str(path.relative_to(GOLDEN)).removesuffix(".json.gz") for path in GOLDEN.glob("*/*.json.gz"))
EVERY_RUN = (  # one or two a family
    "torchvision/alexnet", "torchvision/convnext_tiny__97x65", "timm/convnextv2_atto__97x65", "keras/ConvNeXtTiny",
    "torchvision/densenet121__97x65", "keras/DenseNet121", "torchvision/googlenet", "torchvision/googlenet__transform",
    "torchvision/inception_v3__transform", "keras/InceptionV3", "timm/inception_v4", "keras/InceptionResNetV2",
    "keras/EfficientNetB0", "keras/MobileNet", "keras/MobileNetV3Small__97x65", "timm/lcnet_050",
    "timm/mobilenetv4_conv_small__97x65", "timm/tf_efficientnetv2_b0__97x65", "torchvision/mobilenet_v2__97x65",
    "torchvision/mobilenet_v2__train", "keras/NASNetMobile", "timm/nf_resnet50", "torchvision/regnet_x_400mf",
    "torchvision/regnet_y_400mf", "timm/regnety_002", "timm/repvgg_a0__97x65", "timm/repvgg_b1g4",
    "torchvision/resnet18__97x65", "torchvision/resnet18__train", "torchvision/resnext50_32x4d", "keras/ResNet50",
    "timm/seresnet18", "timm/resnet18d", "timm/resnetblur18", "timm/ecaresnet26t", "keras/ResNet50V2__97x65",
    "timm/resnetv2_50x1_bit__97x65", "timm/resnetv2_50d_gn", "torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1",
    "torchvision/squeezenet1_1__97x65", "torchvision/vgg11__64", "keras/VGG19__notop", "keras/Xception__97x75",
    "timm/legacy_xception__97x65", "timm/xception41__97x65",
)  # fmt: skip


@pytest.mark.parametrize("file", FILES if os.environ.get("JAXCNN_ALL_GOLDEN") else EVERY_RUN)
def test_network_is_that_of_the_reference(file):
    check_golden(file)

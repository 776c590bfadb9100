"""Layer names of ResNet v1 and its variants."""

from jaxcnn.models.resnet import ResNet
from jaxcnn.models.resnet_timm import BlurResNet, ResNetD

_STEM = (("stem_conv", "conv1"), ("stem_norm", "bn1"))
_DEEP_STEM = (
    ("stem_conv", "conv1.0"),
    ("stem_norm1", "conv1.1"),
    ("stem_conv2", "conv1.3"),
    ("stem_norm2", "conv1.4"),
    ("stem_conv3", "conv1.6"),
    ("stem_norm3", "bn1"),
)
_BLOCKS = (
    ("stage{s}_block{b}/conv{n}", "layer{s}.{b-1}.conv{n}"),
    ("stage{s}_block{b}/norm{n}", "layer{s}.{b-1}.bn{n}"),
    ("stage{s}_block{b}/attention/reduce", "layer{s}.{b-1}.se.fc1"),
    ("stage{s}_block{b}/attention/expand", "layer{s}.{b-1}.se.fc2"),
    ("stage{s}_block{b}/attention", "layer{s}.{b-1}.se.conv"),
)
_SHORTCUT = (
    ("stage{s}_block{b}/shortcut_conv", "layer{s}.{b-1}.downsample.0"),
    ("stage{s}_block{b}/shortcut_norm", "layer{s}.{b-1}.downsample.1"),
)
_AVERAGE_SHORTCUT = (  # downsample.0 is the average pooling
    ("stage{s}_block{b}/shortcut_conv", "layer{s}.{b-1}.downsample.1"),
    ("stage{s}_block{b}/shortcut_norm", "layer{s}.{b-1}.downsample.2"),
)
_HEAD = (("head", "fc"),)

TABLES = {
    (ResNet, "torchvision"): (*_STEM, *_BLOCKS, *_SHORTCUT, *_HEAD),
    (ResNet, "timm"): (*_STEM, *_BLOCKS, *_SHORTCUT, *_HEAD),
    (BlurResNet, "timm"): (*_STEM, *_BLOCKS, *_SHORTCUT, *_HEAD),
    (ResNetD, "timm"): (*_DEEP_STEM, *_BLOCKS, *_AVERAGE_SHORTCUT, *_HEAD),
    (ResNet, "keras"): (
        ("stem_conv", "conv1_conv"),
        ("stem_norm", "conv1_bn"),
        ("stage{s}_block{b}/conv{n}", "conv{s+1}_block{b}_{n}_conv"),
        ("stage{s}_block{b}/norm{n}", "conv{s+1}_block{b}_{n}_bn"),
        ("stage{s}_block{b}/shortcut_conv", "conv{s+1}_block{b}_0_conv"),
        ("stage{s}_block{b}/shortcut_norm", "conv{s+1}_block{b}_0_bn"),
        ("head", "predictions"),
    ),
}

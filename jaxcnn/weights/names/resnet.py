"""ResNets."""

from jaxcnn.models.resnet import ResNet

TABLES = {
    (ResNet, "torchvision"): (
        ("stem_conv", "conv1"),
        ("stem_norm", "bn1"),
        ("stage{s}_block{b}/conv{n}", "layer{s}.{b-1}.conv{n}"),
        ("stage{s}_block{b}/norm{n}", "layer{s}.{b-1}.bn{n}"),
        ("stage{s}_block{b}/shortcut_conv", "layer{s}.{b-1}.downsample.0"),
        ("stage{s}_block{b}/shortcut_norm", "layer{s}.{b-1}.downsample.1"),
        ("head", "fc"),
    ),
}

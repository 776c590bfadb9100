"""Layer names of the CIFAR ResNets, as in github.com/akamaster/pytorch_resnet_cifar10."""

from jaxcnn.models.resnet_cifar import CifarResNet

TABLES = {
    (CifarResNet, ""): (
        ("stem_conv", "conv1"),
        ("stem_norm", "bn1"),
        ("stage{s}_block{b}/conv{n}", "layer{s}.{b-1}.conv{n}"),
        ("stage{s}_block{b}/norm{n}", "layer{s}.{b-1}.bn{n}"),
        ("head", "linear"),
    ),
}

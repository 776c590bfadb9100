"""Layer names of AlexNet."""

from jaxcnn.models.alexnet import AlexNet

TABLES = {
    (AlexNet, "torchvision"): (
        ("stem_conv", "features.0"),
        ("conv2", "features.3"),
        ("conv3", "features.6"),
        ("conv4", "features.8"),
        ("conv5", "features.10"),
        ("fc6", "classifier.1"),
        ("fc7", "classifier.4"),
        ("head", "classifier.6"),
    ),
}

"""Layer names of SqueezeNet. torchvision's numbers include the pooling layers."""

from jaxcnn.models.squeezenet import SqueezeNet

TABLES = {
    (SqueezeNet, "torchvision"): (
        ("stem_conv", "features.0"),
        ("stage1_fire{n}/{C}", "features.{n+1}.{C}"),
        ("stage2_fire{n}/{C}", "features.{n+2}.{C}"),
        ("stage3_fire{n}/{C}", "features.{n+3}.{C}"),
        ("head", "classifier.1"),
    ),
}

"""Layer names of GoogLeNet."""

from jaxcnn.models.googlenet import GoogLeNet
from jaxcnn.weights.names.units import units

TABLES = {
    (GoogLeNet, "torchvision"): (
        *units(
            ("stem_conv", "conv1"),
            ("stem_conv{n}", "conv{n}"),
            ("inception{X}/branch1_conv1", "inception{X}.branch1"),
            ("inception{X}/branch4_conv1", "inception{X}.branch4.1"),  # after the pooling
            ("inception{X}/branch{b}_conv{n}", "inception{X}.branch{b}.{n-1}"),
            ("aux{n}_head/conv", "aux{n}.conv"),
        ),
        ("aux{n}_head/{L}", "aux{n}.{L}"),
        ("head", "fc"),
    ),
}

"""Layer names of Inception v3."""

from jaxcnn.models.inception_v3 import STAGES, STEM, InceptionV3
from jaxcnn.weights.names.units import convolutions, numbered, units

TABLES = {
    (InceptionV3, "torchvision"): (
        *units(
            ("stem_conv", "Conv2d_1a_3x3"),
            ("stem_conv2", "Conv2d_2a_3x3"),
            ("stem_conv3", "Conv2d_2b_3x3"),
            ("stem_conv4", "Conv2d_3b_1x1"),
            ("stem_conv5", "Conv2d_4a_3x3"),
            ("mixed_6a/branch1_conv1", "Mixed_6a.branch3x3"),
            ("mixed_6a/branch2_conv{n}", "Mixed_6a.branch3x3dbl_{n}"),
            ("mixed_7a/branch1_conv{n}", "Mixed_7a.branch3x3_{n}"),
            ("mixed_7a/branch2_conv{n}", "Mixed_7a.branch7x7x3_{n}"),
            ("mixed_{X}/branch1_conv1", "Mixed_{X}.branch1x1"),
            ("mixed_{X}/branch4_conv1", "Mixed_{X}.branch_pool"),
            ("mixed_5{X}/branch2_conv{n}", "Mixed_5{X}.branch5x5_{n}"),
            ("mixed_5{X}/branch3_conv{n}", "Mixed_5{X}.branch3x3dbl_{n}"),
            ("mixed_6{X}/branch2_conv{n}", "Mixed_6{X}.branch7x7_{n}"),
            ("mixed_6{X}/branch3_conv{n}", "Mixed_6{X}.branch7x7dbl_{n}"),
            ("mixed_7{X}/branch2_conv{N}", "Mixed_7{X}.branch3x3_{N}"),
            ("mixed_7{X}/branch3_conv{N}", "Mixed_7{X}.branch3x3dbl_{N}"),
            ("aux_head/conv{n}", "AuxLogits.conv{n-1}"),
        ),
        ("aux_head/fc", "AuxLogits.fc"),
        ("head", "fc"),
    ),
    (InceptionV3, "keras"): (
        *numbered(convolutions(STEM, {name: branches for modules in STAGES for name, branches in modules.items()})),
        ("head", "predictions"),
    ),
}

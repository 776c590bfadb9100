"""Layer names of Inception-ResNet."""

from jaxcnn.models.inception_resnet import V2, InceptionResNet
from jaxcnn.weights.names.units import convolutions, numbered, units

TIMM = (
    *units(
        ("stem_conv", "conv2d_1a"),
        ("stem_conv2", "conv2d_2a"),
        ("stem_conv3", "conv2d_2b"),
        ("stem_conv4", "conv2d_3b"),
        ("stem_conv5", "conv2d_4a"),
        ("last_conv", "conv2d_7b"),
        ("mixed_7a/branch{b}_conv{n}", "mixed_7a.branch{b-1}.{n-1}"),
        ("mixed_{X}/branch1_conv1", "mixed_{X}.branch0"),
        ("mixed_{X}/branch4_conv1", "mixed_{X}.branch3.1"),  # after the pooling
        ("mixed_{X}/branch{b}_conv{n}", "mixed_{X}.branch{b-1}.{n-1}"),
    ),
    *(
        line
        for ours, theirs in (
            ("block35_{i}", "repeat.{i-1}"),
            ("block17_{i}", "repeat_1.{i-1}"),
            ("block8_10", "block8"),
            ("block8_{i}", "repeat_2.{i-1}"),
        )
        for line in (
            *units(
                (f"{ours}/branch1_conv1", f"{theirs}.branch0"),
                (f"{ours}/branch{{b}}_conv{{n}}", f"{theirs}.branch{{b-1}}.{{n-1}}"),
            ),
            (f"{ours}/expand", f"{theirs}.conv2d"),
        )
    ),
    ("head", "classif"),
)
MODULES: dict[str, tuple] = {}
for _stage in V2.stages:
    MODULES |= _stage.reduction | {f"{_stage.block}_{index}": _stage.branches for index in range(1, _stage.depth + 1)}

TABLES = {
    (InceptionResNet, "timm"): TIMM,
    (InceptionResNet, ""): TIMM,
    (InceptionResNet, "keras"): (
        *numbered(convolutions(V2.stem, MODULES)),
        ("block{k}_{i}/expand", "block{k}_{i}_conv"),
        ("last_conv", "conv_7b"),
        ("last_norm", "conv_7b_bn"),
        ("head", "predictions"),
    ),
}

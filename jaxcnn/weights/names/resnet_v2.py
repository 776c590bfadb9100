"""Layer names of the pre-activation ResNets."""

from jaxcnn.models.resnet_v2 import KerasResNetV2
from jaxcnn.models.resnet_v2_timm import BiT, GroupNormResNetV2D, TimmResNetV2, TimmResNetV2D

_TIMM = (
    ("stage{s}_block{b}/conv{n}", "stages.{s-1}.blocks.{b-1}.conv{n}"),
    ("stage{s}_block{b}/norm{n}", "stages.{s-1}.blocks.{b-1}.norm{n}"),
    ("stage{s}_block{b}/shortcut_conv", "stages.{s-1}.blocks.{b-1}.downsample.conv"),
    ("head_norm", "norm"),
    ("head/kernel", "head.fc.weight", 2),  # a 1×1 convolution
    ("head", "head.fc"),
)

_TIMM_D = (("stem_conv", "stem.conv1"), ("stem_conv{n}", "stem.conv{n}"), ("stem_norm{n}", "stem.norm{n}"), *_TIMM)

TABLES = {
    (KerasResNetV2, "keras"): (
        ("stem_conv", "conv1_conv"),
        ("stage{s}_block{b}/norm1", "conv{s+1}_block{b}_preact_bn"),
        ("stage{s}_block{b}/norm{n}", "conv{s+1}_block{b}_{n-1}_bn"),
        ("stage{s}_block{b}/conv{n}", "conv{s+1}_block{b}_{n}_conv"),
        ("stage{s}_block{b}/shortcut_conv", "conv{s+1}_block{b}_0_conv"),
        ("head_norm", "post_bn"),
        ("head", "predictions"),
    ),
    (TimmResNetV2, "timm"): (("stem_conv", "stem.conv"), *_TIMM),
    (BiT, "timm"): (("stem_conv", "stem.conv"), *_TIMM),
    (TimmResNetV2D, "timm"): _TIMM_D,
    (GroupNormResNetV2D, "timm"): _TIMM_D,
}

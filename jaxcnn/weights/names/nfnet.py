"""Layer names of NF-ResNet and NFNet."""

from jaxcnn.models.nfnet import NFNet, NFResNet

_BLOCKS = (
    ("stage{s}_block{b}/skip_gain", "stages.{s-1}.{b-1}.skipinit_gain"),
    ("stage{s}_block{b}/shortcut_conv/gain", "stages.{s-1}.{b-1}.downsample.conv.gain", 3),
    ("stage{s}_block{b}/shortcut_conv", "stages.{s-1}.{b-1}.downsample.conv"),
    ("stage{s}_block{b}/attention/reduce", "stages.{s-1}.{b-1}.attn_last.fc1"),
    ("stage{s}_block{b}/attention/expand", "stages.{s-1}.{b-1}.attn_last.fc2"),
    ("stage{s}_block{b}/{C}/gain", "stages.{s-1}.{b-1}.{C}.gain", 3),
    ("stage{s}_block{b}/{C}", "stages.{s-1}.{b-1}.{C}"),
    ("head_conv/gain", "final_conv.gain", 3),
    ("head_conv", "final_conv"),
    ("head", "head.fc"),
)

TABLES = {
    (NFResNet, "timm"): (("stem_conv", "stem.conv"), ("stem_conv/gain", "stem.conv.gain", 3), *_BLOCKS),
    (NFNet, "timm"): (
        ("stem_conv", "stem.conv1"),
        ("stem_conv/gain", "stem.conv1.gain", 3),
        ("stem_conv{n}/gain", "stem.conv{n}.gain", 3),
        ("stem_conv{n}", "stem.conv{n}"),
        *_BLOCKS,
    ),
}

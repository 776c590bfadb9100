"""Layer names of ConvMixer."""

from jaxcnn.models.convmixer import ConvMixer

TABLES = {
    (ConvMixer, "timm"): (
        ("stem_conv", "stem.0"),
        ("stem_norm", "stem.2"),
        ("stage1_block{b}/depthwise_conv", "blocks.{b-1}.0.fn.0"),
        ("stage1_block{b}/depthwise_norm", "blocks.{b-1}.0.fn.2"),
        ("stage1_block{b}/pointwise_conv", "blocks.{b-1}.1"),
        ("stage1_block{b}/pointwise_norm", "blocks.{b-1}.3"),
        ("head", "head"),
    ),
}

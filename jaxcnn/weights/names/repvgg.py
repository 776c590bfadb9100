"""Layer names of RepVGG, for the multi-branch form that is used in training."""

from jaxcnn.models.repvgg import RepVGG

_LAYERS = (
    ("conv", "conv_kxk.conv"),
    ("norm", "conv_kxk.bn"),
    ("conv1x1", "conv_1x1.conv"),
    ("norm1x1", "conv_1x1.bn"),
    ("norm_identity", "identity"),
)

TABLES = {
    (RepVGG, "timm"): (
        *((f"stem_{ours}", f"stem.{theirs}") for ours, theirs in _LAYERS),
        *((f"stage{{s}}_block{{b}}/{ours}", f"stages.{{s-1}}.{{b-1}}.{theirs}") for ours, theirs in _LAYERS),
        ("head", "head.fc"),
    ),
}

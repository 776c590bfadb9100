"""Layer names of ShuffleNet V2."""

from jaxcnn.models.shufflenet_v2 import ShuffleNetV2

TABLES = {
    (ShuffleNetV2, "torchvision"): (
        ("stem_conv", "conv1.0"),
        ("stem_norm", "conv1.1"),
        *(
            (f"stage{{s}}_block{{b}}/{ours}", f"stage{{s}}.{{b-1}}.{theirs}")
            for ours, theirs in (
                ("shortcut_depthwise", "branch1.0"),
                ("shortcut_norm1", "branch1.1"),
                ("shortcut_conv", "branch1.2"),
                ("shortcut_norm2", "branch1.3"),
                ("conv1", "branch2.0"),
                ("norm1", "branch2.1"),
                ("depthwise_conv", "branch2.3"),
                ("norm2", "branch2.4"),
                ("conv2", "branch2.5"),
                ("norm3", "branch2.6"),
            )
        ),
        ("conv5", "conv5.0"),
        ("norm5", "conv5.1"),
        ("head", "fc"),
    ),
}

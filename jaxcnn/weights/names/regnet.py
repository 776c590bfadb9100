"""Layer names of RegNet."""

from jaxcnn.models.regnet import RegNet

TABLES = {
    (RegNet, "torchvision"): (
        ("stem_conv", "stem.0"),
        ("stem_norm", "stem.1"),
        *(
            (f"stage{{s}}_block{{b}}/{ours}", f"trunk_output.block{{s}}.block{{s}}-{{b-1}}.{theirs}")
            for ours, theirs in (
                ("conv1", "f.a.0"),
                ("norm1", "f.a.1"),
                ("conv2", "f.b.0"),
                ("norm2", "f.b.1"),
                ("squeeze_excite/reduce", "f.se.fc1"),
                ("squeeze_excite/expand", "f.se.fc2"),
                ("conv3", "f.c.0"),
                ("norm3", "f.c.1"),
                ("shortcut_conv", "proj.0"),
                ("shortcut_norm", "proj.1"),
            )
        ),
        ("head", "fc"),
    ),
    (RegNet, "timm"): (
        ("stem_conv", "stem.conv"),
        ("stem_norm", "stem.bn"),
        ("stage{s}_block{b}/conv{n}", "s{s}.b{b}.conv{n}.conv"),
        ("stage{s}_block{b}/norm{n}", "s{s}.b{b}.conv{n}.bn"),
        ("stage{s}_block{b}/squeeze_excite/reduce", "s{s}.b{b}.se.fc1"),
        ("stage{s}_block{b}/squeeze_excite/expand", "s{s}.b{b}.se.fc2"),
        ("stage{s}_block{b}/shortcut_conv", "s{s}.b{b}.downsample.conv"),
        ("stage{s}_block{b}/shortcut_norm", "s{s}.b{b}.downsample.bn"),
        ("head", "head.fc"),
    ),
}

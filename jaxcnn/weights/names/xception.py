"""Layer names of Xception."""

from jaxcnn.models.xception import AlignedXception, Xception
from jaxcnn.weights.names.units import units

SHORTCUTS = ("block1", "block2", "block3", "block12")  # Keras only numbers these layers; the others have names

TABLES = {
    (Xception, "keras"): (
        ("stem_conv", "block1_conv1"),
        ("stem_norm", "block1_conv1_bn"),
        ("stem_conv2", "block1_conv2"),
        ("stem_norm2", "block1_conv2_bn"),
        ("block{b}/sepconv{n}_{K}/kernel", "block{b+1}_sepconv{n}/{K}_kernel"),
        ("block{b}/norm{n}", "block{b+1}_sepconv{n}_bn"),
        *(
            (f"{block}/shortcut_{ours}", f"{theirs}_{index}" if index else theirs)
            for index, block in enumerate(SHORTCUTS)
            for ours, theirs in (("conv", "conv2d"), ("norm", "batch_normalization"))
        ),
        ("last_sepconv{n}_{K}/kernel", "block14_sepconv{n}/{K}_kernel"),
        ("last_norm{n}", "block14_sepconv{n}_bn"),
        ("head", "predictions"),
    ),
    (Xception, "timm"): (
        ("stem_conv", "conv1"),
        ("stem_norm", "bn1"),
        ("stem_conv2", "conv2"),
        ("stem_norm2", "bn2"),
        *(  # ReLU, convolution, norm, repeated; block1 has no first ReLU
            (f"{block}/{ours}", f"{block}.rep.{3 * n - 3 + place - (block == 'block1')}{part}")
            for block in ("block1", "block{b}")
            for n in (1, 2, 3)
            for ours, place, part in (
                (f"sepconv{n}_depthwise", 1, ".conv1"),
                (f"sepconv{n}_pointwise", 1, ".pointwise"),
                (f"norm{n}", 2, ""),
            )
        ),
        ("block{b}/shortcut_conv", "block{b}.skip"),
        ("block{b}/shortcut_norm", "block{b}.skipbn"),
        ("last_sepconv{n}_depthwise", "conv{n+2}.conv1"),
        ("last_sepconv{n}_pointwise", "conv{n+2}.pointwise"),
        ("last_norm{n}", "bn{n+2}"),
        ("head", "fc"),
    ),
    (AlignedXception, "timm"): (
        ("stem_conv", "stem.0.conv"),
        ("stem_norm", "stem.0.bn"),
        ("stem_conv2", "stem.1.conv"),
        ("stem_norm2", "stem.1.bn"),
        ("block{b}/sepconv{n}_depthwise_norm", "blocks.{b-1}.stack.conv{n}.bn_dw"),
        ("block{b}/sepconv{n}_pointwise_norm", "blocks.{b-1}.stack.conv{n}.bn_pw"),
        ("block{b}/sepconv{n}_depthwise", "blocks.{b-1}.stack.conv{n}.conv_dw"),
        ("block{b}/sepconv{n}_pointwise", "blocks.{b-1}.stack.conv{n}.conv_pw"),
        *units(("block{b}/shortcut_conv", "blocks.{b-1}.shortcut")),
        ("head", "head.fc"),
    ),
}

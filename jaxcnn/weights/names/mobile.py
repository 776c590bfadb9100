"""Layer names of the mobile families, from MobileNet v1 to EfficientNetV2. The tables are built from a variant's blocks."""

import flax.linen as nn

from jaxcnn.models.efficientnet import KerasEfficientNet
from jaxcnn.models.mobile_network import MobileNetwork, WithoutShortcuts
from jaxcnn.models.mobilenet_v1 import MobileNetV1
from jaxcnn.models.mobilenet_v2 import KerasMobileNetV2, MobileNetV2
from jaxcnn.models.mobilenet_v3 import KerasMobileNetV3


def _layer(ours, conv, norm):
    return ((f"{ours}_conv", conv), (f"{ours}_norm", norm))


def _squeeze_excite(block, reduce, expand):
    return ((f"{block.name}/squeeze_excite/reduce", reduce), (f"{block.name}/squeeze_excite/expand", expand))


def _torchvision(fields):
    # MobileNet v2 and v3 have one sequence of blocks, EfficientNet has one sequence per stage.
    design = fields["design"]
    if design.activation is nn.relu:
        return _MNASNET
    is_v2, is_efficientnet = design.activation is nn.relu6, design.activation is nn.silu
    lines = [*_layer("stem", "features.0.0", "features.0.1")]
    for number, block in enumerate(design.blocks, start=1):
        place = f"features.{f'{block.stage}.{block.number - 1}' if is_efficientnet else number}.{'conv' if is_v2 else 'block'}"
        for n, part in enumerate(block.layers):
            if part == "squeeze_excite":
                lines += _squeeze_excite(block, f"{place}.{n}.fc1", f"{place}.{n}.fc2")
            elif part == "project" and is_v2:
                lines += _layer(f"{block.name}/{part}", f"{place}.{n}", f"{place}.{n + 1}")
            else:
                lines += _layer(f"{block.name}/{part}", f"{place}.{n}.0", f"{place}.{n}.1")
    last = 1 + (len(design.stages) if is_efficientnet else len(design.blocks))
    end = (("hidden", "classifier.0"), ("head", "classifier.3")) if design.hidden else (("head", "classifier.1"),)
    return (*lines, *_layer("last", f"features.{last}.0", f"features.{last}.1"), *end)


_MNASNET = (
    ("stem_conv", "layers.0"),
    ("stem_norm", "layers.1"),
    ("stage1_block1/depthwise_conv", "layers.3"),
    ("stage1_block1/depthwise_norm", "layers.4"),
    ("stage1_block1/project_conv", "layers.6"),
    ("stage1_block1/project_norm", "layers.7"),
    ("stage{s}_block{b}/expand_conv", "layers.{s+6}.{b-1}.layers.0"),
    ("stage{s}_block{b}/expand_norm", "layers.{s+6}.{b-1}.layers.1"),
    ("stage{s}_block{b}/depthwise_conv", "layers.{s+6}.{b-1}.layers.3"),
    ("stage{s}_block{b}/depthwise_norm", "layers.{s+6}.{b-1}.layers.4"),
    ("stage{s}_block{b}/project_conv", "layers.{s+6}.{b-1}.layers.6"),
    ("stage{s}_block{b}/project_norm", "layers.{s+6}.{b-1}.layers.7"),
    ("last_conv", "layers.14"),
    ("last_norm", "layers.15"),
    ("head", "classifier.1"),
)


def _keras_v1(fields):
    lines = [*_layer("stem", "conv1", "conv1_bn")]
    for number, block in enumerate(fields["design"].blocks, start=1):
        lines += _layer(f"{block.name}/depthwise", f"conv_dw_{number}", f"conv_dw_{number}_bn")
        lines += _layer(f"{block.name}/project", f"conv_pw_{number}", f"conv_pw_{number}_bn")
    return (*lines, ("head", "conv_preds"))


def _keras_v2(fields):
    lines = [*_layer("stem", "Conv1", "bn_Conv1")]
    for number, block in enumerate(fields["design"].blocks):
        theirs = f"block_{number}" if number else "expanded_conv"
        for part in block.layers:
            lines += _layer(f"{block.name}/{part}", f"{theirs}_{part}", f"{theirs}_{part}_BN")
    return (*lines, *_layer("last", "Conv_1", "Conv_1_bn"), ("head", "predictions"))


def _keras_v3(fields):
    lines = [*_layer("stem", "conv", "conv_bn")]
    for number, block in enumerate(fields["design"].blocks):
        theirs = f"expanded_conv_{number}" if number else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            lines += _layer(f"{block.name}/{part}", f"{theirs}_{part}", f"{theirs}_{part}_bn")
        lines += _squeeze_excite(block, f"{theirs}_squeeze_excite_conv", f"{theirs}_squeeze_excite_conv_1")
    return (*lines, *_layer("last", "conv_1", "conv_1_bn"), ("hidden", "conv_2"), ("head", "logits"))


def _keras_efficientnet(fields):
    lines = [*_layer("stem", "stem_conv", "stem_bn")]
    depthwise = "dwconv" if fields["normalization"] == "layer" else "dwconv2"
    for block in fields["design"].blocks:
        theirs = f"block{block.stage}{chr(ord('a') + block.number - 1)}"
        for part in ("expand", "project"):
            lines += _layer(f"{block.name}/{part}", f"{theirs}_{part}_conv", f"{theirs}_{part}_bn")
        lines += _layer(f"{block.name}/depthwise", f"{theirs}_{depthwise}", f"{theirs}_bn")
        lines += _squeeze_excite(block, f"{theirs}_se_reduce", f"{theirs}_se_expand")
    normalization = (("normalization/mean", "normalization/mean"), ("normalization/var", "normalization/variance"))
    return (*lines, *_layer("last", "top_conv", "top_bn"), *normalization, ("head", "predictions"))


_TIMM_CONVS = {
    "separable": {"depthwise": "conv_dw", "project": "conv_pw"},
    "separable_activated": {"depthwise": "conv_dw", "project": "conv_pw"},
    "inverted": {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"},
    "fused": {"expand": "conv_exp", "project": "conv_pwl"},
    "universal": {"start_depthwise": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"},
}


def _timm(fields):
    lines = [*_layer("stem", "conv_stem", "bn1")]
    for block in fields["design"].blocks:
        place = f"blocks.{block.stage - 1}.{block.number - 1}"
        norms = 0
        for part in block.layers:
            ours = f"{block.name}/{part}"
            if part == "squeeze_excite":
                lines += _squeeze_excite(block, f"{place}.se.conv_reduce", f"{place}.se.conv_expand")
            elif block.row.kind == "universal":
                theirs = f"{place}.{_TIMM_CONVS['universal'][part]}"
                lines += _layer(ours, f"{theirs}.conv", f"{theirs}.bn")
            else:
                norms += 1
                is_single = block.layers == ("project",)
                theirs = f"{place}.{'conv' if is_single else _TIMM_CONVS[block.row.kind][part]}"
                lines += _layer(ours, theirs, f"{place}.bn{norms}")
                if block.row.groups != (1, 1) or isinstance(block.row.kernel, tuple):
                    lines.append((f"{ours}_conv{{n}}", f"{theirs}.{{n-1}}"))
    end = (
        _layer("last", "conv_head", "bn2") if fields["design"].last else (("hidden", "conv_head"), ("hidden_norm", "norm_head"))
    )
    return (*lines, *end, ("head", "classifier"))


TABLES = {
    (KerasEfficientNet, "keras"): _keras_efficientnet,
    (KerasMobileNetV2, "keras"): _keras_v2,
    (KerasMobileNetV3, "keras"): _keras_v3,
    (MobileNetV1, "keras"): _keras_v1,
    (MobileNetV2, "torchvision"): _torchvision,
    (MobileNetwork, "timm"): _timm,
    (MobileNetwork, "torchvision"): _torchvision,
    (WithoutShortcuts, "timm"): _timm,
}
FORMS: dict[tuple[type[nn.Module], str], str] = {(MobileNetV1, ""): "keras"}

"""Layer names of ConvNeXt."""

from typing import Any

from jaxcnn.models.convnext import ConvNeXt, KerasConvNeXt


def _timm(fields: dict[str, Any]) -> tuple:
    # The smaller variants implement their linear layers as 1×1 convolutions.
    ones = 2 if fields["widths"][0] < 96 else 0
    return (
        ("stem_conv", "stem.0"),
        ("stem_norm", "stem.1"),
        ("stage{s}_norm", "stages.{s-1}.downsample.0"),
        ("stage{s}_conv", "stages.{s-1}.downsample.1"),
        ("stage{s}_block{b}/conv7x7", "stages.{s-1}.blocks.{b-1}.conv_dw"),
        ("stage{s}_block{b}/norm", "stages.{s-1}.blocks.{b-1}.norm"),
        ("stage{s}_block{b}/expand/kernel", "stages.{s-1}.blocks.{b-1}.mlp.fc1.weight", ones),
        ("stage{s}_block{b}/expand", "stages.{s-1}.blocks.{b-1}.mlp.fc1"),
        ("stage{s}_block{b}/response_norm", "stages.{s-1}.blocks.{b-1}.mlp.grn"),
        ("stage{s}_block{b}/reduce/kernel", "stages.{s-1}.blocks.{b-1}.mlp.fc2.weight", ones),
        ("stage{s}_block{b}/reduce", "stages.{s-1}.blocks.{b-1}.mlp.fc2"),
        ("head_norm", "head.norm"),
        ("head", "head.fc"),
    )


def _keras(fields: dict[str, Any]) -> tuple:
    # Layer names start with the model's name. The layer scales are unnamed variables, numbered across the whole model.
    model = fields["name"].removeprefix("keras/").replace("ConvNeXt", "ConvNeXt_").lower()
    blocks = [(s, b) for s, depth in enumerate(fields["depths"], start=1) for b in range(1, depth + 1)]
    return (
        ("stem_conv", f"{model}_stem/{model}_stem_conv"),
        ("stem_norm", f"{model}_stem/{model}_stem_layernorm"),
        *(
            (
                f"stage{s}_block{b}/layer_scale",
                f"{model}_stage_{s - 1}_block_{b - 1}_layer_scale/variable{f'_{i}' if i else ''}",
            )
            for i, (s, b) in enumerate(blocks)
        ),
        ("stage{s}_norm", f"{model}_downsampling_block_{{s-2}}/{model}_downsampling_layernorm_{{s-2}}"),
        ("stage{s}_conv", f"{model}_downsampling_block_{{s-2}}/{model}_downsampling_conv_{{s-2}}"),
        ("stage{s}_block{b}/conv7x7", model + "_stage_{s-1}_block_{b-1}_depthwise_conv"),
        ("stage{s}_block{b}/norm", model + "_stage_{s-1}_block_{b-1}_layernorm"),
        ("stage{s}_block{b}/expand", model + "_stage_{s-1}_block_{b-1}_pointwise_conv_1"),
        ("stage{s}_block{b}/reduce", model + "_stage_{s-1}_block_{b-1}_pointwise_conv_2"),
        ("head_norm", f"{model}_head_layernorm"),
        ("head", f"{model}_head_dense"),
    )


TABLES = {
    (ConvNeXt, "torchvision"): (
        ("stem_conv", "features.0.0"),
        ("stem_norm", "features.0.1"),
        *((f"stage{s}_norm", f"features.{2 * s - 2}.0") for s in (2, 3, 4)),
        *((f"stage{s}_conv", f"features.{2 * s - 2}.1") for s in (2, 3, 4)),
        *(
            (f"stage{s}_block{{b}}/{ours}", f"features.{2 * s - 1}.{{b-1}}.{theirs}", *ones)
            for s in (1, 2, 3, 4)
            for ours, theirs, *ones in (
                ("layer_scale", "layer_scale", 2),
                ("conv7x7", "block.0"),
                ("norm", "block.2"),
                ("expand", "block.3"),
                ("reduce", "block.5"),
            )
        ),
        ("head_norm", "classifier.0"),
        ("head", "classifier.2"),
    ),
    (ConvNeXt, "timm"): _timm,
    (KerasConvNeXt, "keras"): _keras,
}

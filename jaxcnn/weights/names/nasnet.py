"""Layer names of NASNet-A."""

from collections.abc import Iterator

from jaxcnn.models.nasnet import NASNet
from jaxcnn.weights.names.units import units


def keras_cell(ours: str, kind: str, number: str) -> Iterator[tuple[str, str]]:
    """Yields the lines for one kind of cell. Keras repeats the kind and number of the cell at each level of a name."""
    cell = f"{kind}_A_block_{number}"
    yield f"{ours}/conv", f"{cell}/{kind}_conv_1_{number}"
    yield f"{ours}/norm", f"{cell}/{kind}_bn_1_{number}"
    adjust = f"{cell}/adjust_block/adjust_projection_block_{number}"
    yield f"{ours}/previous_conv", f"{adjust}/adjust_conv_projection_{number}"
    yield f"{ours}/previous_norm", f"{adjust}/adjust_bn_{number}"
    adjust = f"{cell}/adjust_block/adjust_reduction_block_{number}"
    yield f"{ours}/reduced_conv{{n}}", f"{adjust}/adjust_conv_{{n}}_{number}"
    yield f"{ours}/reduced_norm", f"{adjust}/adjust_bn_{number}"
    for block, side in (("5", "left4"), ("{b}", "{S}{b}")) if kind == "reduction" else (("{b}", "{S}{b}"),):
        left = f"{ours}/block5_left" if block == "5" else f"{ours}/block{{b}}_{{S}}"
        inner, end = f"{cell}/block_{block}/separable_conv_block_{kind}_{side}_{number}", f"{kind}_{side}_{number}"
        yield f"{left}/sepconv{{n}}_{{K}}/kernel", f"{inner}/separable_conv_{{n}}_{end}/{{K}}_kernel"
        yield f"{left}/norm{{n}}", f"{inner}/separable_conv_{{n}}_bn_{end}"


TABLES = {
    (NASNet, "keras"): (
        ("stem_conv", "stem_conv1"),
        ("stem_norm", "stem_bn1"),
        *keras_cell("stem_cell{c}", "reduction", "stem_{c}"),
        *keras_cell("reduction{c}", "reduction", "reduce_{c}"),
        *keras_cell("cell{c}", "normal", "{c}"),
        ("head", "predictions"),
    ),
    (NASNet, "timm"): (
        *units(("stem_conv", "conv0")),
        *(
            line
            for ours, theirs in (
                ("stem_cell{c}", "cell_stem_{c-1}"),
                ("reduction6", "reduction_cell_0"),
                ("reduction12", "reduction_cell_1"),
                *((f"cell{index}", f"cell_{index}") for index in range(6)),
                ("cell{c}", "cell_{c-1}"),
            )
            for line in (
                *units((f"{ours}/conv", f"{theirs}.conv_1x1"), (f"{ours}/previous_conv", f"{theirs}.conv_prev_1x1")),
                (f"{ours}/reduced_conv{{n}}", f"{theirs}.path_{{n}}.conv"),
                (f"{ours}/reduced_norm", f"{theirs}.final_path_bn"),
                (
                    f"{ours}/block{{b}}_{{S}}/sepconv{{n}}_{{K}}",
                    f"{theirs}.comb_iter_{{b-1}}_{{S}}.separable_{{n}}.{{K}}_conv2d",
                ),
                (f"{ours}/block{{b}}_{{S}}/norm{{n}}", f"{theirs}.comb_iter_{{b-1}}_{{S}}.bn_sep_{{n}}"),
            )
        ),
        ("head", "last_linear"),
    ),
}

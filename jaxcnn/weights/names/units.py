"""Lines of tables for networks of many like units, each a convolution and its norm."""

from collections.abc import Iterator, Mapping

from jaxcnn.layers import conv_numbers
from jaxcnn.layers.branches import LayerSpecs


def units(*lines: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """(our convolution, their unit) -> lines for {unit}.conv and {unit}.bn, as torchvision and timm call them."""
    return tuple(
        line for ours, theirs in lines for line in ((ours, f"{theirs}.conv"), (ours.replace("conv", "norm"), f"{theirs}.bn"))
    )


def numbered(convs: Iterator[str]) -> tuple[tuple[str, str], ...]:
    """Lines for layers that Keras numbers as they are created: conv2d, conv2d_1, …, batch_normalization, …."""
    lines = []
    for index, ours in enumerate(convs):
        number = f"_{index}" if index else ""
        lines += [(ours, f"conv2d{number}"), (ours.replace("conv", "norm"), f"batch_normalization{number}")]
    return tuple(lines)


def convolutions(stem: LayerSpecs, modules: Mapping[str, tuple[LayerSpecs, ...]]) -> Iterator[str]:
    """Our names of all convolutions of a stem and of modules of branches, in their order."""
    for number in conv_numbers(stem):
        yield "stem_conv" if number == "1" else f"stem_conv{number}"
    for name, branches in modules.items():
        for branch, specs in enumerate(branches, start=1):
            for number in conv_numbers(specs):
                yield f"{name}/branch{branch}_conv{number}"

"""Table lines for networks that consist of units of a convolution and its normalization."""

from collections.abc import Iterator, Mapping

from jaxcnn.layers import conv_numbers
from jaxcnn.layers.branches import LayerSpecs


def units(*lines: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Expands pairs (our convolution, unit) to lines for {unit}.conv and {unit}.bn, as named in torchvision and timm."""
    return tuple(
        line for ours, theirs in lines for line in ((ours, f"{theirs}.conv"), (ours.replace("conv", "norm"), f"{theirs}.bn"))
    )


def numbered(convs: Iterator[str]) -> tuple[tuple[str, str], ...]:
    """Returns the lines for layers that Keras numbers in the order of creation: conv2d, conv2d_1, …, batch_normalization, …"""
    lines = []
    for index, ours in enumerate(convs):
        number = f"_{index}" if index else ""
        lines += [(ours, f"conv2d{number}"), (ours.replace("conv", "norm"), f"batch_normalization{number}")]
    return tuple(lines)


def convolutions(stem: LayerSpecs, modules: Mapping[str, tuple[LayerSpecs, ...]]) -> Iterator[str]:
    """Yields our names of all convolutions of a stem and of modules with branches, in order."""
    for number in conv_numbers(stem):
        yield "stem_conv" if number == "1" else f"stem_conv{number}"
    for name, branches in modules.items():
        for branch, specs in enumerate(branches, start=1):
            for number in conv_numbers(specs):
                yield f"{name}/branch{branch}_conv{number}"

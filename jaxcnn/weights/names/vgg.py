"""Layer names of VGG. torchvision's numbers include the activations and the pooling layers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxcnn.models.vgg import VGG, NormVGG, layer_name


def torchvision(layers: tuple[str, ...], fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns the table of a variant whose convolutions consist of `layers`, from the variant's fields."""
    lines, position = [], 0
    for stage, depth in enumerate(fields["depths"], start=1):
        for index in range(1, depth + 1):
            for layer in layers:
                lines.append((layer_name(layer, stage, index), f"features.{position}"))
                position += 1
            position += 1  # the activation
        position += 1  # the pooling
    return *lines, ("fc1", "classifier.0"), ("fc2", "classifier.3"), ("head", "classifier.6")


TABLES = {
    (VGG, "torchvision"): partial(torchvision, ("conv",)),
    (NormVGG, "torchvision"): partial(torchvision, ("conv", "norm")),
    (VGG, "keras"): (
        ("stem_conv", "block1_conv1"),
        ("stage{s}_conv{n}", "block{s}_conv{n}"),
        ("fc{n}", "fc{n}"),
        ("head", "predictions"),
    ),
}

"""The structure of a network: its stem, stages and head in the order of computation, and the layers of each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict


class Map(NamedTuple):
    """Properties of a feature map that do not depend on the size of the images."""

    channels: int
    stride: int
    """distance of neighboring positions, in pixels of the image"""


class Part(NamedTuple):
    """The stem, a stage, or the head of a network."""

    name: str
    """the name of its feature map: "stem", "stage1", …; or "head" for everything after the last map"""
    layers: tuple[tuple[str, ...], ...]
    """names in `params`, grouped by layer: a block, or a convolution or linear layer with its norm"""
    channels: int = 0
    """channels of its feature map; 0 if it has none"""
    stride: int = 0
    """stride of its feature map in pixels of the image; 0 if the size of the map does not depend on that of the image"""


def structure(model: nn.Module, channels: int = 3) -> tuple[Part, ...]:
    """Returns the parts of a model for images of `channels` channels. Only shapes are computed.

        [part.name for part in structure(create_model("resnet50"))]  # stem, stage1, stage2, stage3, stage4, head

    Every parameter is in exactly one layer, and layers are in the order of computation, as layer-wise learning rates, gradual
    unfreezing and backbones need it. The head consists of everything after the last feature map and of the parameters that
    the model does not have with num_classes=0 (auxiliary heads). A model without feature maps is all head.
    """
    headless = model.clone(num_classes=0) if hasattr(model, "num_classes") else model
    traced, larger = _trace(model, SMALLER, channels), _trace(headless, LARGER, channels)
    maps, params = traced.maps, traced.params
    number_of = {name: traced.calls.get(name, 0) if name in larger.params else len(maps) for name in params}
    parts = []
    for number, name in enumerate([*maps, "head"]):
        layers = _layers({layer: params[layer] for layer in (*traced.calls, *params) if number_of.get(layer) == number})
        part = Part(name, tuple(map(tuple, layers)))
        if name in maps:
            part = part._replace(channels=maps[name][-1], stride=_stride(maps[name], larger.maps[name]))
        parts.append(part)
    return tuple(part for part in parts if part.layers or part.channels)


def layer_maps(model: nn.Module, channels: int = 3) -> dict[str, Map]:
    """Returns {"stage1_block1/conv1": Map(64, 4), …, "stage1": …} for all layers and parts whose output is a feature map."""
    smaller, larger = (_trace(model, side, channels, capture=True).maps for side in (SMALLER, LARGER))
    strides = {name: _stride(shape, larger[name]) for name, shape in smaller.items() if len(shape) == 4}
    return {name: Map(smaller[name][-1], stride) for name, stride in strides.items() if stride}


SMALLER, LARGER = 320, 768


def _stride(smaller: tuple[int, ...], larger: tuple[int, ...]) -> int:
    """Returns the stride of a map from its shapes for images of sides SMALLER and LARGER; 0 if the shapes are equal.

    The side of an image divided by that of its map is not the stride if convolutions have no padding. The ratio of differences
    is. The difference of 448 pixels is divisible by powers of two and by 7 (patches of 7×7 or 14×14).
    """
    difference = larger[1] - smaller[1]
    return (LARGER - SMALLER) // difference if difference else 0


def _layers(params: Mapping[str, Any]) -> list[list[str]]:
    """Groups the names of a part by layer. A norm belongs to the convolution before it, or else to the layer after it."""
    layers: list[list[str]] = []
    norms: list[str] = []
    for name, tree in params.items():
        if not isinstance(tree, Mapping) or "kernel" in tree or any(isinstance(leaf, Mapping) for leaf in tree.values()):
            layers.append([*norms, name])
            norms = []
        elif layers and not norms and "kernel" in params[layers[-1][-1]]:
            layers[-1].append(name)
        else:
            norms.append(name)
    if norms:
        layers[-1:] = [[*(layers[-1] if layers else ()), *norms]]
    return layers


def sown_maps(variables: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns the feature maps in the collection "intermediates" of a model's variables, by name."""
    flat = flatten_dict(variables.get("intermediates", {}), sep="/")
    return {name.removesuffix("/__call__"): maps[-1] for name, maps in flat.items()}


class _Trace(NamedTuple):
    """The result of tracing a network for one image size, in the order of computation."""

    maps: dict[str, tuple[int, ...]]
    """shape of each feature map"""
    calls: dict[str, int]
    """how many feature maps had been sown when each layer was first called"""
    params: Mapping[str, Any]


def _trace(model: nn.Module, side: int, channels: int, *, capture: bool = False) -> _Trace:
    """Traces a model for square images. With `capture`, the maps include the outputs of all layers."""
    traced: list[Any] = []
    calls: dict[str, int] = {}

    def record(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        path, network = context.module.path, context.module.parent
        if len(path) == 1 and isinstance(network, nn.Module):
            calls.setdefault(path[0], len(network.variables.get("intermediates", {})))
        return call(*arguments, **options)

    def initialize(key: jax.Array, x: jax.Array) -> None:
        with nn.intercept_methods(record):
            variables = dict(model.init(key, x, train=False, mutable=True))
        sown: Mapping[str, Any] = variables
        if capture:  # not in init: `in_sequence` runs there without scan
            variables.pop("intermediates", None)
            _, sown = model.apply(variables, x, train=False, mutable=["intermediates"], capture_intermediates=True)
        traced.extend((sown_maps(sown), variables["params"]))

    jax.eval_shape(initialize, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32))
    maps, params = traced
    return _Trace({name: array.shape for name, array in maps.items()}, calls, params)

"""What a network consists of, in the order of its computation: stem, stages, head, and the layers of each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict


class Map(NamedTuple):
    """What feature maps have, whatever the size of the images."""

    channels: int
    stride: int
    """pixels of the image from one position to the next"""


class Part(NamedTuple):
    """A stage of a network, the stem before the stages, or the head after them."""

    name: str
    """"stem", "stage1", …, as of its feature map; "head": what follows the last map"""
    layers: tuple[tuple[str, ...], ...]
    """the names in `params` of each layer: a block, or a convolution or linear layer with its norm"""
    channels: int = 0
    """of its feature map; 0: it has none"""
    stride: int = 0
    """pixels of the image from one position of its feature map to the next; 0: the map does not grow with the image"""


def structure(model: nn.Module, channels: int = 3) -> tuple[Part, ...]:
    """The parts of a model for images of `channels` channels, by shapes alone.

        [part.name for part in structure(create_model("resnet50"))]  # stem, stage1, stage2, stage3, stage4, head

    Every parameter is in one of the layers, in the order of the computation: what layer-wise learning rates,
    gradual unfreezing and backbones need. To the head belongs what follows the last map, and what the model has not with
    num_classes=0 (auxiliary heads). Where a model has no feature maps, all of it is the head.
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
    """{"stage1_block1/conv1": Map(64, 4), …, "stage1": …}: of all layers and parts that give feature maps."""
    smaller, larger = (_trace(model, side, channels, capture=True).maps for side in (SMALLER, LARGER))
    strides = {name: _stride(shape, larger[name]) for name, shape in smaller.items() if len(shape) == 4}
    return {name: Map(smaller[name][-1], stride) for name, stride in strides.items() if stride}


SMALLER, LARGER = 320, 768


def _stride(smaller: tuple[int, ...], larger: tuple[int, ...]) -> int:
    """How many pixels are between two positions of a map; 0 where the map does not grow with the image.

    Without padding, a map is smaller than the image's size over its stride. So this is taken from how much larger the map of
    an image is that is 448 pixels larger, which powers of two and sevenths (patches of 7×7 or 14×14) divide.
    """
    grown = larger[1] - smaller[1]
    return (LARGER - SMALLER) // grown if grown else 0


def _layers(params: Mapping[str, Any]) -> list[list[str]]:
    """Names of one part, a norm beside its convolution: the one before it, else the layer after it."""
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
    """The feature maps among a model's variables, by name."""
    flat = flatten_dict(variables.get("intermediates", {}), sep="/")
    return {name.removesuffix("/__call__"): maps[-1] for name, maps in flat.items()}


class _Trace(NamedTuple):
    """What a network does with images of one size; all in the order of its computation."""

    maps: dict[str, tuple[int, ...]]
    """shapes of its feature maps"""
    calls: dict[str, int]
    """how many of them there were when each layer was first called"""
    params: Mapping[str, Any]


def _trace(model: nn.Module, side: int, channels: int, *, capture: bool = False) -> _Trace:
    """With `capture`, what each layer gives is among the maps."""
    found: list[Any] = []
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
        if capture:  # not in init, where blocks that are compiled once run one by one
            variables.pop("intermediates", None)
            _, sown = model.apply(variables, x, train=False, mutable=["intermediates"], capture_intermediates=True)
        found.extend((sown_maps(sown), variables["params"]))

    jax.eval_shape(initialize, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32))
    maps, params = found
    return _Trace({name: array.shape for name, array in maps.items()}, calls, params)

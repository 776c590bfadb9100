"""State dicts of other model libraries into variables of ours, and back."""

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.models.registry import find
from jaxcnn.weights.files import read
from jaxcnn.weights.names import FORMS, TABLES, Table

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
KERAS_LEAVES = {"kernel": "kernel", "scale": "gamma", "bias": "bias", "mean": "moving_mean", "var": "moving_variance"}
COUNTERS = ("num_batches_tracked", "normalization/count")  # no part of the function that a network is


def convert(name: str, state_dict: Mapping[str, np.ndarray], /, **arguments: Any) -> dict[str, Any]:
    """The variables {"params", "batch_stats"} of create_model(name, **arguments), as float32 numpy arrays.

    Names and layouts in `state_dict` are those of the library whose flavour the model is: PyTorch's (OIHW, OI) of torchvision
    and timm, or Keras's (HWIO, IO). A "module." in front (from DataParallel) and counters are passed over. The first
    convolution decides the number of input channels. Raises UserError if a tensor is missing, left over or of another
    shape than the model's, with their names (20 of each kind at most).
    """
    tensors = {_today(key, state_dict): np.asarray(value) for key, value in state_dict.items() if not key.endswith(COUNTERS)}
    wanted = _wanted(name, arguments, tensors)

    problems = []
    if missing := [key for key in wanted if key not in tensors]:
        problems.append(f"{len(missing)} missing: {_listed(missing)}")
    if left_over := [key for key in tensors if key not in wanted]:
        problems.append(f"{len(left_over)} left over: {_listed(left_over)}")
    if wrong := [
        f"{key} has {tensors[key].shape} instead of {place.shape}"
        for key, place in wanted.items()
        if key in tensors and tensors[key].shape != place.shape
    ]:
        problems.append(f"{len(wrong)} of another shape: {_listed(wrong)}")
    if problems:
        given = "".join(f", {argument}={value}" for argument, value in arguments.items())
        raise UserError(f"weights do not fit {name}{given}: {'; '.join(problems)}")

    return flax.traverse_util.unflatten_dict({place.path: place.ours(key, tensors[key]) for key, place in wanted.items()})


def export(name: str, variables: Mapping[str, Any], /) -> dict[str, np.ndarray]:
    """The inverse: what the library whose flavour the model `name` is calls its variables, in its layouts, float32.

    PyTorch's load_state_dict takes it (as tensors, with strict=False for the counters of batches).
    """
    table, library = _table(name)
    flat = flax.traverse_util.flatten_dict({kind: variables[kind] for kind in ("params", "batch_stats") if kind in variables})
    places = (_Place.of(path, np.shape(array), table, library, flat) for path, array in flat.items())
    return {place.key: place.theirs(np.asarray(array, np.float32)) for place, array in zip(places, flat.values(), strict=True)}


def load(path: str | os.PathLike, name: str, /, **arguments: Any) -> dict[str, Any]:
    """`convert` of the file `path`. Raises UserError that names the file."""
    tensors = read(path)
    try:
        return convert(name, tensors, **arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def adapt_stem(variables: dict[str, Any], channels: int) -> dict[str, Any]:
    """The same variables with a first convolution for images of `channels` channels.

    For 1 its kernel is summed over the channels, so the network sees grey as it saw the grey repeated. For others it is
    repeated over and over and scaled so that its response keeps its size, as timm does (adapt_input_conv).
    """
    params = variables["params"]
    adapted = {}
    for layer in params.keys() & {"stem_conv", "stem_conv1x1"}:  # RepVGG's has two branches
        kernel = params[layer]["kernel"]  # HWIO
        old_channels = kernel.shape[2]
        if channels == 1:
            kernel = kernel.sum(axis=2, keepdims=True)
        else:
            kernel = kernel[:, :, np.arange(channels) % old_channels] * np.float32(old_channels / channels)
        adapted[layer] = params[layer] | {"kernel": kernel}
    return variables | {"params": params | adapted}


def library(name: str) -> str:
    """Whose names and layouts the weights of the model `name` have: "torchvision", "keras", "timm", or "" for others'."""
    return _table(name)[1]


def number_of_classes(name: str, state_dict: Mapping[str, np.ndarray], /, **arguments: Any) -> int:
    """How many classes the head in `state_dict` tells apart; 0 if there is none."""
    tensors = {key.removeprefix("module."): value for key, value in state_dict.items()}
    seven, eight = (_wanted(name, arguments | {"num_classes": number}, tensors) for number in (7, 8))
    for key, place in seven.items():
        axes = [axis for axis, sizes in enumerate(zip(place.shape, eight[key].shape, strict=True)) if len(set(sizes)) == 2]
        if axes and key in tensors and np.ndim(tensors[key]) == len(place.shape):
            return np.shape(tensors[key])[axes[0]]
    return 0


def _today(key: str, keys: Collection[str]) -> str:
    """The name without what DataParallel puts in front; Keras 2 called a depthwise convolution's kernel as a separable's."""
    layer = key.removesuffix("/depthwise_kernel")
    if layer != key and f"{layer}/pointwise_kernel" not in keys:
        return f"{layer}/kernel"
    return key.removeprefix("module.")


def _listed(entries: list[str], most: int = 20) -> str:
    """More than `most` belong to another architecture, and tell nothing more."""
    more = f", … and {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


class _Place(NamedTuple):
    """Where a variable of ours stands in a library's state dict."""

    path: tuple[str, ...]
    key: str
    axes: tuple[int, ...]
    """theirs -> ours"""
    ones: int
    """axes of length 1 that theirs has beyond, at the end"""
    shape: tuple[int, ...]
    """theirs"""

    @classmethod
    def of(cls, path: tuple[str, ...], shape: tuple[int, ...], table: Table, library: str, paths: Collection) -> "_Place":
        _, *layer, leaf = path
        name = "/".join(layer)
        keras = library == "keras"
        key, ones = _match(f"{name}/{leaf}", table)
        if not key:
            layer_key, ones = _match(name, table)
            if not layer_key:
                raise LookupError(f"no line for {name} in the table of names")
            if keras and leaf == "bias" and any((kind, *layer, norm) in paths for kind, norm in _NORMS):
                leaf = "beta"
            key = layer_key + ("/" + KERAS_LEAVES.get(leaf, leaf) if keras else "." + LEAVES[leaf])
        if keras:
            axes: tuple[int, ...] = (0, 1, 3, 2) if "depthwise" in name and len(shape) == 4 else tuple(range(len(shape)))
        else:
            axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(len(shape), tuple(range(len(shape))))  # OI -> IO, OIHW -> HWIO
        return cls(path, key, axes, ones, tuple(shape[axes.index(axis)] for axis in range(len(shape))) + (1,) * ones)

    def ours(self, key: str, tensor: np.ndarray) -> np.ndarray:
        try:
            tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.ones])
            return np.asarray(tensor.transpose(self.axes), np.float32, order="C")  # ascontiguousarray makes () to (1,)
        except (TypeError, ValueError) as error:
            raise UserError(f"{key} holds no numbers but {tensor.dtype}") from error

    def theirs(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array.transpose(np.argsort(self.axes)).reshape(self.shape), order="C")


_NORMS = (("params", "scale"), ("batch_stats", "mean"))  # a layer that has one of these is a norm


def _wanted(name: str, arguments: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, _Place]:
    """{their name: its place} of every variable of the model."""
    table, library = _table(name)
    stem, input_axis = (table[0][1] + "/kernel", 2) if library == "keras" else (table[0][1] + ".weight", 1)
    given = tensors.get(stem)
    channels = given.shape[input_axis] if given is not None and given.ndim == 4 and given.size else 3
    images = jax.ShapeDtypeStruct((1, 224, 224, channels), jnp.float32)
    model = create_model(name, **arguments)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    flat = flax.traverse_util.flatten_dict(variables)
    places = (_Place.of(path, variable.shape, table, library, flat) for path, variable in flat.items())
    return {place.key: place for place in places}


def _table(name: str) -> tuple[Table, str]:
    """The table of the model's names, and the library that they are from."""
    module, fields, library, *_ = find(name)
    library = FORMS.get((module, library), library)
    if (module, library) not in TABLES:
        raise UserError(f"{name}: no weights from elsewhere are known for it")
    table = TABLES[module, library]
    return table({"name": name, **fields}) if callable(table) else table, library


def _match(path: str, table: Table) -> tuple[str, int]:
    """What a table calls one of our layers or arrays, "" if nothing; and how many axes of length 1 it has beyond ours."""
    for ours, theirs, *ones in table:
        if "{" not in ours and ours != path:
            continue
        pattern = re.sub(r"{([a-z])}", r"(?P<\1>\\d+)", re.sub(r"{([A-Z])}", r"(?P<\1>[^/]+)", ours))
        if match := re.fullmatch(pattern, path):
            key = re.sub(r"{(\w)([-+]\d+)?}", lambda part: _number(match[part[1]], part[2]), theirs)
            return key, ones[0] if ones else 0
    return "", 0


def _number(text: str, shift: str | None) -> str:
    return str(int(text) + int(shift)) if shift else text

"""Converts state dicts of other model libraries to the variables of this package's models, and back."""

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
COUNTERS = ("num_batches_tracked", "normalization/count")  # counters of training steps; inference does not use them


def convert(name: str, state_dict: Mapping[str, np.ndarray], /, **arguments: Any) -> dict[str, Any]:
    """Returns the variables {"params", "batch_stats"} of create_model(name, **arguments), as float32 NumPy arrays.

    `state_dict` has the names and layouts of the library whose variant the model is: PyTorch layouts (OIHW, OI) for torchvision
    and timm, or Keras layouts (HWIO, IO). The prefix "module." (of DataParallel) and counters are ignored. The first
    convolution decides the number of input channels. Raises UserError if a tensor is missing, unexpected or has the wrong
    shape, and lists the names (at most 20 of each kind).
    """
    tensors = {_current_name(key, state_dict): np.asarray(x) for key, x in state_dict.items() if not key.endswith(COUNTERS)}
    expected = _expected(name, arguments, tensors)

    problems = []
    if missing := [key for key in expected if key not in tensors]:
        problems.append(f"{len(missing)} missing: {_listed(missing)}")
    if unexpected := [key for key in tensors if key not in expected]:
        problems.append(f"{len(unexpected)} unexpected: {_listed(unexpected)}")
    if wrong := [
        f"{key} has {tensors[key].shape}, expected {entry.shape}"
        for key, entry in expected.items()
        if key in tensors and tensors[key].shape != entry.shape
    ]:
        problems.append(f"{len(wrong)} of the wrong shape: {_listed(wrong)}")
    if problems:
        given = "".join(f", {argument}={value}" for argument, value in arguments.items())
        raise UserError(f"weights do not fit {name}{given}: {'; '.join(problems)}")

    return flax.traverse_util.unflatten_dict({entry.path: entry.to_ours(key, tensors[key]) for key, entry in expected.items()})


def export(name: str, variables: Mapping[str, Any], /) -> dict[str, np.ndarray]:
    """Returns the float32 state dict of `variables`, the inverse of `convert`.

    It has the names and layouts of the library whose variant the model `name` is. PyTorch's load_state_dict accepts it, once
    its arrays are tensors, with strict=False because the counters of batches are missing.
    """
    table, library = _table(name)
    flat = flax.traverse_util.flatten_dict({kind: variables[kind] for kind in ("params", "batch_stats") if kind in variables})
    entries = (_Entry.of(path, np.shape(array), table, library, flat) for path, array in flat.items())
    return {entry.key: entry.to_theirs(np.asarray(x, np.float32)) for entry, x in zip(entries, flat.values(), strict=True)}


def load(path: str | os.PathLike, name: str, /, **arguments: Any) -> dict[str, Any]:
    """Reads the file `path` and converts its tensors, see `convert`. A UserError names the file."""
    tensors = read(path)
    try:
        return convert(name, tensors, **arguments)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def adapt_stem(variables: dict[str, Any], channels: int) -> dict[str, Any]:
    """Returns the variables with a first convolution for images of `channels` channels.

    For one channel, the kernel is summed over its input channels, so a gray image gives the same response as that image
    repeated in all channels. For other numbers, the kernel's channels are repeated in turn and scaled to preserve the magnitude
    of the response, as in timm (adapt_input_conv).
    """
    params = variables["params"]
    if "backbone" in params:  # a network for segmentation
        inner = adapt_stem({"params": params["backbone"]}, channels)
        return variables | {"params": params | {"backbone": inner["params"]}}
    adapted = {}
    for layer in params.keys() & {"stem_conv", "stem_conv1x1"}:  # RepVGG's stem has two branches
        kernel = params[layer]["kernel"]  # HWIO
        old_channels = kernel.shape[2]
        if channels == 1:
            kernel = kernel.sum(axis=2, keepdims=True)
        else:
            kernel = kernel[:, :, np.arange(channels) % old_channels] * np.float32(old_channels / channels)
        adapted[layer] = params[layer] | {"kernel": kernel}
    return variables | {"params": params | adapted}


def library(name: str) -> str:
    """Returns the library whose names and layouts the weights of the model have: "torchvision", "keras", "timm" or ""."""
    return _table(name)[1]


def number_of_classes(name: str, state_dict: Mapping[str, np.ndarray], /, **arguments: Any) -> int:
    """Returns the number of classes of the head in `state_dict`, 0 if it has no head."""
    tensors = {key.removeprefix("module."): value for key, value in state_dict.items()}
    # An axis along the classes is one whose length changes with their number.
    seven, eight = (_expected(name, arguments | {"num_classes": number}, tensors) for number in (7, 8))
    for key, entry in seven.items():
        axes = [axis for axis, sizes in enumerate(zip(entry.shape, eight[key].shape, strict=True)) if len(set(sizes)) == 2]
        if axes and key in tensors and np.ndim(tensors[key]) == len(entry.shape):
            return np.shape(tensors[key])[axes[0]]
    return 0


def has_layer(name: str, state_dict: Mapping[str, np.ndarray], layer: str = "", /) -> bool:
    """Returns whether `state_dict` has the layer with this path in our variables; "": the model's first convolution.

    It may have the names of the library whose variant the model is, or ours. Neither shapes nor other layers are compared.
    """
    if (found := _known_table(name)) is None:
        return False
    table, _ = found
    ours, theirs = (layer, _match(layer, table)[0]) if layer else table[0][:2]
    prefixes = tuple(path + separator for path in (f"params/{ours}", theirs) for separator in "/.")
    return any(_current_name(key, state_dict).startswith(prefixes) for key in state_dict)


def _current_name(key: str, keys: Collection[str]) -> str:
    """Removes DataParallel's prefix, and renames the depthwise kernels of Keras 2 as in Keras 3."""
    # In Keras 2, a DepthwiseConv2D's kernel has the same name as the first kernel of a SeparableConv2D.
    layer = key.removesuffix("/depthwise_kernel")
    if layer != key and f"{layer}/pointwise_kernel" not in keys:
        return f"{layer}/kernel"
    return key.removeprefix("module.")


def _listed(entries: list[str], most: int = 20) -> str:
    more = f", … and {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


class _Entry(NamedTuple):
    """The entry of a library's state dict that holds one of our variables."""

    path: tuple[str, ...]
    """path of our variable"""
    key: str
    """name in the state dict"""
    axes: tuple[int, ...]
    """permutation from the library's axes to ours"""
    ones: int
    """number of trailing axes of length 1 in the library's tensor that our variable does not have"""
    shape: tuple[int, ...]
    """shape of the library's tensor"""

    @classmethod
    def of(cls, path: tuple[str, ...], shape: tuple[int, ...], table: Table, library: str, paths: Collection) -> "_Entry":
        _, *layer, leaf = path
        name = "/".join(layer)
        keras = library == "keras"
        key, ones = _match(f"{name}/{leaf}", table)
        if not key:
            layer_key, ones = _match(name, table)
            if not layer_key:
                raise LookupError(f"the table of names has no line for {name}")
            if keras and leaf == "bias" and any((kind, *layer, norm) in paths for kind, norm in _NORMS):
                leaf = "beta"
            key = layer_key + ("/" + KERAS_LEAVES.get(leaf, leaf) if keras else "." + LEAVES[leaf])
        if keras:
            axes: tuple[int, ...] = (0, 1, 3, 2) if "depthwise" in name and len(shape) == 4 else tuple(range(len(shape)))
        else:
            axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(len(shape), tuple(range(len(shape))))  # OI -> IO, OIHW -> HWIO
        return cls(path, key, axes, ones, tuple(shape[axes.index(axis)] for axis in range(len(shape))) + (1,) * ones)

    def to_ours(self, key: str, tensor: np.ndarray) -> np.ndarray:
        try:
            tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.ones])
            return np.asarray(tensor.transpose(self.axes), np.float32, order="C")  # ascontiguousarray turns () into (1,)
        except (TypeError, ValueError) as error:
            raise UserError(f"{key}: expected numbers, got {tensor.dtype}") from error

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array.transpose(np.argsort(self.axes)).reshape(self.shape), order="C")


_NORMS = (("params", "scale"), ("batch_stats", "mean"))  # a layer with one of these is a normalization layer


def _expected(name: str, arguments: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, _Entry]:
    """Returns the state dict entries of the model's variables by name, for the input channels of the stem in `tensors`."""
    table, library = _table(name)
    stem, input_axis = (table[0][1] + "/kernel", 2) if library == "keras" else (table[0][1] + ".weight", 1)
    kernel = tensors.get(stem)
    channels = kernel.shape[input_axis] if kernel is not None and kernel.ndim == 4 and kernel.size else 3
    images = jax.ShapeDtypeStruct((1, 224, 224, channels), jnp.float32)
    model = create_model(name, **arguments)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    flat = flax.traverse_util.flatten_dict(variables)
    entries = (_Entry.of(path, variable.shape, table, library, flat) for path, variable in flat.items())
    return {entry.key: entry for entry in entries}


def _table(name: str) -> tuple[Table, str]:
    """Returns the table of names for the model's layers and the library that the names are from."""
    if (found := _known_table(name)) is None:
        raise UserError(f"{name}: no weights of another library are known for this model")
    return found


def _known_table(name: str) -> tuple[Table, str] | None:
    module, fields, library, *_ = find(name)
    library = FORMS.get((module, library), library)
    if (module, library) not in TABLES:
        return None
    table = TABLES[module, library]
    return table({"name": name, **fields}) if callable(table) else table, library


def _match(path: str, table: Table) -> tuple[str, int]:
    """Returns the library's name of a layer or array, "" if the table has no line for it, and its number of trailing 1 axes."""
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

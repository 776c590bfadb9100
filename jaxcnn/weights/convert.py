"""State dicts of PyTorch's model libraries into variables of ours."""

import os
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.models.registry import find
from jaxcnn.models.resnet import ResNet
from jaxcnn.models.resnet_cifar import CifarResNet
from jaxcnn.weights.files import read

# (our layer, theirs): {x} is a number, {x-1} the same counted from 0.
TABLES: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    ResNet: (  # torchvision
        ("stem_conv", "conv1"),
        ("stem_norm", "bn1"),
        ("stage{s}_block{b}/conv{n}", "layer{s}.{b-1}.conv{n}"),
        ("stage{s}_block{b}/norm{n}", "layer{s}.{b-1}.bn{n}"),
        ("stage{s}_block{b}/shortcut_conv", "layer{s}.{b-1}.downsample.0"),
        ("stage{s}_block{b}/shortcut_norm", "layer{s}.{b-1}.downsample.1"),
        ("head", "fc"),
    ),
    CifarResNet: (  # github.com/akamaster/pytorch_resnet_cifar10
        ("stem_conv", "conv1"),
        ("stem_norm", "bn1"),
        ("stage{s}_block{b}/conv{n}", "layer{s}.{b-1}.conv{n}"),
        ("stage{s}_block{b}/norm{n}", "layer{s}.{b-1}.bn{n}"),
        ("head", "linear"),
    ),
}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def convert(name: str, state_dict: Mapping[str, np.ndarray], /, **arguments: Any) -> dict[str, Any]:
    """The variables {"params", "batch_stats"} of create_model(name, **arguments), as float32 numpy arrays.

    Names and layouts (OIHW, OI) in `state_dict` are PyTorch's: those of torchvision for resnet18 to 152, of akamaster
    for the CIFAR networks; a "module." in front (from DataParallel) and num_batches_tracked are passed over. The first
    convolution decides the number of input channels. Raises UserError if a tensor is missing, left over or of another
    shape than the model's, with their names (20 of each kind at most).
    """
    tensors = {
        key.removeprefix("module."): np.asarray(value)
        for key, value in state_dict.items()
        if not key.endswith("num_batches_tracked")
    }
    wanted = _wanted(name, arguments, tensors)  # their name: (our path, their shape)

    problems = []
    if missing := [key for key in wanted if key not in tensors]:
        problems.append(f"{len(missing)} missing: {_listed(missing)}")
    if left_over := [key for key in tensors if key not in wanted]:
        problems.append(f"{len(left_over)} left over: {_listed(left_over)}")
    if wrong := [
        f"{key} has {tensors[key].shape} instead of {shape}"
        for key, (_, shape) in wanted.items()
        if key in tensors and tensors[key].shape != shape
    ]:
        problems.append(f"{len(wrong)} of another shape: {_listed(wrong)}")
    if problems:
        given = "".join(f", {argument}={value}" for argument, value in arguments.items())
        raise UserError(f"weights do not fit {name}{given}: {'; '.join(problems)}")

    return flax.traverse_util.unflatten_dict({path: _ours(key, tensors[key]) for key, (path, _) in wanted.items()})


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
    kernel = variables["params"]["stem_conv"]["kernel"]  # HWIO
    has = kernel.shape[2]
    if channels == 1:
        adapted = kernel.sum(axis=2, keepdims=True)
    else:
        adapted = kernel[:, :, np.arange(channels) % has] * np.float32(has / channels)
    return variables | {"params": variables["params"] | {"stem_conv": variables["params"]["stem_conv"] | {"kernel": adapted}}}


def _listed(entries: list[str], most: int = 20) -> str:
    """More than `most` belong to another architecture, and tell nothing more."""
    more = f", … and {len(entries) - most} more" if len(entries) > most else ""
    return ", ".join(entries[:most]) + more


def _ours(key: str, tensor: np.ndarray) -> np.ndarray:
    """From PyTorch's layout to ours: OIHW -> HWIO, OI -> IO."""
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[tensor.ndim]
    try:
        return np.ascontiguousarray(tensor.transpose(axes), np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key} holds no numbers but {tensor.dtype}") from error


def _wanted(name: str, arguments: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    """{their name: (our path, their shape)} of every variable of the model."""
    table = TABLES.get(find(name).module)
    if table is None:
        raise UserError(f"{name}: no weights from elsewhere are known for it")
    stem = tensors.get(_theirs("stem_conv", table) + ".weight")
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 and stem.size else 3
    images = jax.ShapeDtypeStruct((1, 224, 224, channels), jnp.float32)
    model = create_model(name, **arguments)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), images)
    wanted = {}
    for path, variable in flax.traverse_util.flatten_dict(variables).items():
        _, *layer, leaf = path
        axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[variable.ndim]  # HWIO -> OIHW, IO -> OI
        shape = tuple(variable.shape[axis] for axis in axes)
        wanted[f"{_theirs('/'.join(layer), table)}.{LEAVES[leaf]}"] = (path, shape)
    return wanted


def _theirs(layer: str, table: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in table:
        if match := re.fullmatch(re.sub(r"{(\w)}", r"(?P<\1>\\d+)", ours), layer):
            return re.sub(r"{(\w)(-1)?}", lambda number: str(int(match[number[1]]) - bool(number[2])), theirs)
    raise LookupError(f"no line for {layer} in the table of names")

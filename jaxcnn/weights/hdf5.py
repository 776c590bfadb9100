"""Reads HDF5 files of Keras with h5py (the extra "keras").

The older format, written by model.save("….h5") and used by keras.applications, has one group per layer, which contains the
variables by name. In the .weights.h5 files of Keras 3 the variables of a layer are only numbered: the layer's name is an
attribute, and the names of its variables follow from its class, after which the group is named.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.errors import UserError, first_line

VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "normalization": ("mean", "variance", "count"),
    "layer_scale": ("variable",),  # of ConvNeXt; numbered across the whole model, like its layers
}
"""The names of a Keras layer's variables by its class, in the order of their numbers."""


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by the names that Keras 3 gives variables, such as "conv1_conv/kernel".

    Layers with automatic names (conv2d_95, conv2d_96 …) are renumbered as in the first model of a session: conv2d, conv2d_1 …

    Raises UserError if h5py is not installed, the file is damaged or not from Keras, or its variables cannot be named.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: reading HDF5 needs the library h5py: pip install 'jaxcnn[keras]'") from error
    try:
        with h5py.File(path, "r") as file:
            is_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            root = file["model_weights"] if is_model else file
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:  # layer_names0 if a long list is split
                named = {re.sub(r":\d+$", "", name.partition("/")[2]): tensor for name, tensor in _datasets(root)}
            elif isinstance(file.get("layers", getlink=True), h5py.HardLink):
                layers = _datasets(file["layers"], "layers/")
                named = {_variable_name(name, file): tensor for name, tensor in layers if "/seed_generator/" not in name}
            else:
                raise UserError(f"{path}: an HDF5 file, but not Keras weights")
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: damaged, or not an HDF5 file ({first_line(error)[:200]})") from error
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: a damaged HDF5 file ({first_line(error)[:200]})") from error
    return _renumbered(named)


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, array) of all datasets below a group. Raises UserError for data that is stored in another file."""
    import h5py

    for key in group:
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise UserError(f"{prefix}{key} is stored in another file, which was not opened")
        if isinstance(link, h5py.SoftLink):
            continue
        member = group[key]
        if isinstance(member, h5py.Group):
            yield from _datasets(member, f"{prefix}{key}/")
        elif member.external or member.is_virtual:
            raise UserError(f"{prefix}{key} is stored in another file, which was not opened")
        else:
            yield f"{prefix}{key}", member[()]


def _variable_name(path: str, file: Any) -> str:
    """Translates layers/conv2d_3/vars/0 to conv1_conv/kernel; layers/sequential/layers/… is prefixed with the outer name."""
    layer, _, number = path.rpartition("/vars/")
    outer, _, group = layer.rpartition("/layers/") if "/layers/" in layer else ("", "", layer.removeprefix("layers/"))
    names = [file[f"{holder}/vars"].attrs.get("name") for holder in (outer, layer) if holder == layer or "sequential" in holder]
    if None in names:
        raise UserError(f"{layer} has no name; load the model in Keras and save it with model.save('FILE.h5') to store names")
    name, kind = "/".join(names), re.sub(r"_\d+$", "", group)
    if kind not in VARIABLES:
        raise UserError(
            f"{layer} ({name}) has an unsupported class; load the model in Keras and save it with model.save('FILE.h5'), "
            "which stores the names of its arrays"
        )
    if kind == "layer_scale":
        return f"{name}/{group.replace(kind, VARIABLES[kind][0])}"
    variables = VARIABLES[kind]
    if kind == "batch_normalization" and len(file[f"{layer}/vars"]) == 3:  # without gamma
        variables = variables[1:]
    return f"{name}/{variables[int(number)] if int(number) < len(variables) else number}"


def _renumbered(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renumbers the automatic layer names of each class from 0, in their order."""
    numbers: dict[str, set[int]] = {}
    for name in tensors:
        if match := _automatic(name):
            numbers.setdefault(match[1], set()).add(int(match[2] or 0))
    ranks = {kind: {number: rank for rank, number in enumerate(sorted(found))} for kind, found in numbers.items()}

    def renumbered(name: str) -> str:
        if not (match := _automatic(name)):
            return name
        rank = ranks[match[1]][int(match[2] or 0)]
        return f"{match[1]}{f'_{rank}' if rank else ''}/{match[3]}"

    return {renumbered(name): tensor for name, tensor in tensors.items()}


def _automatic(name: str) -> re.Match[str] | None:
    return re.fullmatch(rf"({'|'.join(VARIABLES)})(?:_(\d+))?/(.*)", name)

"""Keras's HDF5 files, by h5py: the extra "keras".

The older form, that of the files of keras.applications and of model.save("….h5"), is a group a layer, in it the variables
by name. Keras 3's .weights.h5 numbers the variables of a layer, whose name is an attribute; theirs follow from its class,
which the group is named after.
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
    "layer_scale": ("variable",),  # ConvNeXt's; numbered through the model, as its layers are
}
"""Of Keras's layers, in the order in which they are numbered."""


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The tensors by the names that Keras 3 gives variables: "conv1_conv/kernel".

    Layers that Keras numbered itself (conv2d_95, conv2d_96 …) are numbered as in a model that is the first in its session:
    conv2d, conv2d_1 …

    Raises UserError if h5py is not installed, the file is damaged, another one, or names can't be told.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: to read HDF5 the library h5py is wanted: pip install 'jaxcnn[keras]'") from error
    try:
        with h5py.File(path, "r") as file:
            is_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            root = file["model_weights"] if is_model else file
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:  # of very many layers: in pieces
                named = {re.sub(r":\d+$", "", name.partition("/")[2]): tensor for name, tensor in _datasets(root)}
            elif isinstance(file.get("layers", getlink=True), h5py.HardLink):
                layers = _datasets(file["layers"], "layers/")
                named = {_name(name, file): tensor for name, tensor in layers if "/seed_generator/" not in name}
            else:
                raise UserError(f"{path}: an HDF5 file, but no weights of Keras")
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: damaged, or no HDF5 file ({first_line(error)[:200]})") from error
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: a damaged HDF5 file ({first_line(error)[:200]})") from error
    return _renumbered(named)


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """All (path, array) below a group; what would be read from other files is refused."""
    import h5py

    for key in group:
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise UserError(f"{prefix}{key} lies in another file; it was not opened")
        if isinstance(link, h5py.SoftLink):
            continue
        member = group[key]
        if isinstance(member, h5py.Group):
            yield from _datasets(member, f"{prefix}{key}/")
        elif member.external or member.is_virtual:
            raise UserError(f"{prefix}{key} lies in another file; it was not opened")
        else:
            yield f"{prefix}{key}", member[()]


def _name(path: str, file: Any) -> str:
    """layers/conv2d_3/vars/0 -> conv1_conv/kernel; that of layers/sequential/layers/… begins with the name of the outer one."""
    layer, _, place = path.rpartition("/vars/")
    outer, _, group = layer.rpartition("/layers/") if "/layers/" in layer else ("", "", layer.removeprefix("layers/"))
    names = [file[f"{holder}/vars"].attrs.get("name") for holder in (outer, layer) if holder == layer or "sequential" in holder]
    if None in names:
        raise UserError(f"holds no names of layers ({layer} has none); load it in Keras, and model.save('FILE.h5') writes them")
    name, kind = "/".join(names), re.sub(r"_\d+$", "", group)
    if kind not in VARIABLES:
        raise UserError(
            f"{layer} ({name}) is of a kind unknown here; load it in Keras, and model.save('FILE.h5') names its arrays"
        )
    if kind == "layer_scale":
        return f"{name}/{group.replace(kind, VARIABLES[kind][0])}"
    variables = VARIABLES[kind]
    if kind == "batch_normalization" and len(file[f"{layer}/vars"]) == 3:  # without gamma
        variables = variables[1:]
    return f"{name}/{variables[int(place)] if int(place) < len(variables) else place}"


def _renumbered(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the names that Keras made itself counted from the first on."""
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

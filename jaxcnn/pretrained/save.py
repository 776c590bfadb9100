"""Writes weights with their preprocessing and class names, for load_pretrained and for other libraries."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.models.registry import find
from jaxcnn.pretrained import published
from jaxcnn.pretrained.adapt import TaskKind, outputs_of


def save_pretrained(
    path: str | Path,
    name: str,
    variables: Mapping[str, Any],
    preprocessing: Preprocessing,
    class_names: Sequence[str] = (),
    *,
    task: TaskKind,
    **arguments: Any,
) -> None:
    """Writes the weights of create_model(name, num_classes=…, **arguments), for load_pretrained and model.pretrained.

        trained = jaxcnn.train.load_trained("runs/flowers")
        model = trained.config.model
        save_pretrained(
            "flowers.safetensors", model.name, trained.variables, trained.preprocessing, trained.class_names,
            task=trained.task.kind, **model.arguments,
        )

    `path` is a .safetensors or .npz file, or else a folder for the Hugging Face hub (model.safetensors, and config.json in
    timm's format). The tensors have the names and layouts of the library whose variant the model is, or ours if no library has
    the model. Preprocessing, class names, task and arguments are stored with them. A binary task has two class names and one
    output. The task of a segmentation network is "segmentation".

    Raises:
      UserError: the variables are not the model's, the number of outputs does not match the classes, the task is not the
        model's, or writing fails.
    """
    if (predicts := find(name).task) != ("segmentation" if task == "segmentation" else "classification"):
        raise UserError(f"{path}: {name} is a network for {predicts}, which does not fit task={task!r}")
    class_names = [str(class_name) for class_name in class_names]
    arguments |= {"dtype": jnp.dtype(arguments["dtype"]).name} if "dtype" in arguments else {}
    flat = {where: np.asarray(array) for where, array in flax.traverse_util.flatten_dict(variables).items()}
    shape = preprocessing.input_shape
    axes = weights.class_axes(name, shape, **arguments)
    outputs = next((flat[where].shape[along[0]] for where, along in axes.items() if where in flat), 0)
    weights.check_shapes(name, flat, shape, **arguments | {"num_classes": outputs})
    if class_names and outputs != outputs_of(task, class_names):
        raise UserError(f"{path}: {len(class_names)} class names for a {task} model with {outputs} outputs")
    try:
        tensors = weights.export(name, variables)
    except (UserError, LookupError):  # no table of names for this model, or not for all its layers
        tensors = {"/".join(where): array for where, array in flat.items()}
    metadata = {
        "model": {"name": name, "arguments": arguments},
        "task": task,
        "class_names": class_names,
        "preprocessing": preprocessing.to_json(),
    }
    path = Path(path)
    if path.suffix in (".safetensors", ".npz", ".pth", ".pt", ".bin", ".h5", ".keras", ".ckpt"):  # write refuses some of these
        weights.write(path, tensors, metadata)
        return
    if (path / "config.json").exists() and not (path / "model.safetensors").exists():
        raise UserError(f"{path}: holds the config.json of something else, perhaps of a run; choose another folder")
    weights.write(path / "model.safetensors", tensors, metadata)
    layers = {"num_classes": outputs, **_layers(name, flat, axes)}
    config = published.to_timm(name, preprocessing, class_names, **layers)
    weights.write_bytes(path / "config.json", (json.dumps(config, indent=2, ensure_ascii=False, default=float) + "\n").encode())


def _layers(name: str, flat: Mapping[tuple[str, ...], np.ndarray], axes: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Returns first_conv and classifier for timm's config, as the names of these layers in the file."""

    def theirs(path: tuple[str, ...]) -> str:
        try:
            (key,) = weights.export(name, flax.traverse_util.unflatten_dict({path: flat[path]}))
        except (UserError, LookupError):
            key = "/".join(path)
        return key.rpartition("." if "." in key else "/")[0]

    stems = [theirs(path) for path in flat if path[-2:] == ("stem_conv", "kernel")]
    heads = [theirs(path) for path in axes if path in flat and path[-1] == "kernel"]
    found = {"first_conv": stems, "classifier": heads}
    return {key: names[0] if len(names) == 1 else names for key, names in found.items() if names}

"""Adapts weights to images and classes that differ from those of their training."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import normalize

import flax.traverse_util
import numpy as np

from jaxcnn import weights
from jaxcnn.data import Preprocessing
from jaxcnn.data.fields import LabelKind
from jaxcnn.errors import UserError
from jaxcnn.pretrained import published

if TYPE_CHECKING:
    from jaxcnn.pretrained.load import Pretrained


TaskKind = Literal[LabelKind, "segmentation"]
"""What a network predicts: the label of an image, of one of three kinds, or the class of each pixel."""


def fit(
    origin: "Pretrained",
    variables: dict[str, Any],
    source_outputs: int,
    outputs: int,
    input_shape: tuple[int, int, int],
    class_names: Sequence[str] = (),
    *,
    seed: int = 0,
    **arguments: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Adapts the variables of a model with `source_outputs` outputs to `outputs` outputs and images of `input_shape`.

    Returns the adapted variables and a description of each change. If both the source's class names and `class_names` are
    known, the head is reordered for the same classes in another order, and newly initialized for other classes. An auxiliary
    head that the model has and the source lacks is newly initialized; one that only the source has is removed.
    """
    variables, changes = _with_channels(origin, variables, input_shape[2])
    has_auxiliary, needs_auxiliary = has_auxiliary_head(variables), arguments.get("aux_loss", False)
    if origin.arguments is not None:  # models that only this package has may have parameters that depend on the image size
        of_source = arguments | {"num_classes": source_outputs}
        if has_auxiliary != needs_auxiliary:
            of_source["aux_loss"] = has_auxiliary
        weights.check_shapes(origin.name, flax.traverse_util.flatten_dict(variables), input_shape, **of_source)
    order, same = head_order(origin, source_outputs, outputs, class_names), list(range(outputs))
    difference = f"{outputs} classes instead of {source_outputs}"
    if order != same and source_outputs == outputs:
        axes = weights.class_axes(origin.name, input_shape, **arguments)
        if order is None:
            difference = class_difference(origin.named(outputs), class_names)
            variables = weights.without_classes(variables, axes)
        else:
            changes.append("its head is reordered to the class order of the data set")
            variables = weights.reordered(variables, axes, order)
    if order is not None and has_auxiliary == needs_auxiliary:
        return variables, changes
    arguments |= {"num_classes": outputs}
    variables, fresh = weights.with_fresh(origin.name, variables, input_shape=input_shape, seed=seed, **arguments)
    if has_auxiliary and not needs_auxiliary:
        changes.append("its auxiliary head is left out")
    if needs_auxiliary and not has_auxiliary:
        changes.append("it has no auxiliary head, which is newly initialized")
        fresh = [name for name in fresh if not name.startswith("aux_")]
    return variables, [*changes, f"newly initialized for {difference}: {', '.join(fresh)}"] if fresh else changes


def as_encoder(
    origin: "Pretrained",
    variables: dict[str, Any],
    name: str,
    outputs: int,
    input_shape: tuple[int, int, int],
    *,
    seed: int = 0,
    **arguments: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the variables of create_model(name, num_classes=outputs, **arguments) whose encoder is this classifier.

    The classifier's head is left out, and the layers of the model other than its encoder are newly initialized. Also returns a
    description of each change. Raises UserError if the classifier differs from the encoder.
    """
    variables, changes = _with_channels(origin, variables, input_shape[2])
    inside = {collection: {"backbone": tree} for collection, tree in variables.items()}
    arguments |= {"num_classes": outputs}
    complete, fresh = weights.with_fresh(name, inside, input_shape=input_shape, seed=seed, **arguments)
    different = [path.removeprefix("backbone/") for path in fresh if path.startswith("backbone/")]
    if different or "backbone" not in complete["params"]:
        given = "".join(f", {argument}={value}" for argument, value in (origin.arguments or {}).items() if argument != "dtype")
        raise UserError(
            f"{origin.source}: weights of {origin.name}{given} do not fit the encoder of {name}, which has other shapes: "
            f"{_listed(different)}"
        )
    used, available = (flax.traverse_util.flatten_dict(tree) for tree in (complete, inside))
    left_out = _listed(["/".join(path[2:]) for path in available if path not in used])
    changes.append(f"its weights are used for the encoder of {name}{f', without {left_out}' if left_out else ''}")
    return complete, [*changes, "the other layers are newly initialized"]


def _with_channels(origin: "Pretrained", variables: dict[str, Any], channels: int) -> tuple[dict[str, Any], list[str]]:
    """Adapts the first convolution to `channels` channels. Returns the variables and a description of the change, if any."""
    source_channels = stem_channels(origin, variables)
    if source_channels == channels:
        return variables, []
    if "stem_conv" not in encoder_params(variables):
        raise UserError(
            f"{origin.source}: {origin.name} has no stem_conv to adapt from {source_channels} channels to {channels}"
        )
    return weights.adapt_stem(variables, channels), [f"stem_conv/kernel adapted from {source_channels} channels to {channels}"]


def encoder_params(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the parameters of a segmentation network's encoder; those of the entire network if it has no separate one."""
    return variables["params"].get("backbone", variables["params"])


def has_auxiliary_head(variables: Mapping[str, Any]) -> bool:
    """Returns whether these are variables of a segmentation network with an auxiliary head (`aux_loss`)."""
    return "aux_logits" in variables["params"]


def head_order(origin: "Pretrained", source_outputs: int, outputs: int, class_names: Sequence[str]) -> list[int] | None:
    """Returns the index of the source's output for each of `outputs`, None if the classes differ and need a new head.

    If the source's class names or `class_names` are not known, only the number of classes is compared.
    """
    same = list(range(outputs))
    theirs, ours = ([normalize("NFC", name.strip()) for name in names] for names in (origin.named(source_outputs), class_names))
    if source_outputs != outputs:
        return None
    if not (theirs and ours) or theirs == ours or (published.is_imagenet(theirs) and published.is_imagenet(ours)):
        return same
    if Counter(theirs) != Counter(ours) or len(set(theirs)) < len(theirs) or outputs != len(theirs):
        return None  # the two classes of a binary model share one output, which cannot be reordered
    return [theirs.index(name) for name in ours]


def class_difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Returns the text "ours instead of theirs" without the names that both have."""
    new, gone = ([name for name in some if name not in others] or some for some, others in ((ours, theirs), (theirs, ours)))
    return f"{_listed(new)} instead of {_listed(gone)}"


def known_differences(
    origin: "Pretrained", task: TaskKind, arguments: Mapping[str, Any], source_outputs: int, class_names: Sequence[str]
) -> list[str]:
    """Returns warnings for a user who keeps the head of these weights for this task and these arguments of the model."""
    lines = []
    if not (origin.named(source_outputs) and class_names):
        lines.append("its head is kept because the data set has as many classes; whether they are the same is not known")
    if origin.task not in (None, task):
        lines.append(f"its head was trained for a {origin.task} task, but this one is {task}")
    given = {key: value for key, value in (origin.arguments or {}).items() if key != "dtype"}
    if origin.arguments is not None and json.dumps(given, sort_keys=True) != json.dumps(dict(arguments), sort_keys=True):
        lines.append(f"its model.arguments were {given}")
    return lines


def other_preprocessing(origin: "Pretrained", preprocessing: Preprocessing) -> list[str]:
    """Returns how the source's stated resizing and cropping differ from `preprocessing`, as at most one line of text."""
    fields = {"size": "input size", "fit": "data.fit", "crop_ratio": "data.crop_ratio", "interpolation": "data.interpolation"}
    theirs, ours = dataclasses.asdict(origin.preprocessing), dataclasses.asdict(preprocessing)
    different = [
        f"{setting} {theirs[field]}, here {ours[field]}" for field, setting in fields.items() if theirs[field] != ours[field]
    ]
    return [f"it was trained with {'; '.join(different)}"] if different and not origin.assumed else []


def stem_channels(origin: "Pretrained", variables: Mapping[str, Any]) -> int:
    """Returns the number of image channels that these weights are for."""
    if origin.arguments is not None:  # written by this package, which states it; the stem may be depthwise or have another name
        return origin.preprocessing.image_shape[2]
    return encoder_params(variables)["stem_conv"]["kernel"].shape[2]


def for_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """Adapts mean and std to `channels` channels: their averages for one channel, else their values repeated in turn."""

    def adapted(old: tuple[float, ...]) -> tuple[float, ...]:
        return (float(np.mean(old)),) if channels == 1 else tuple(old[channel % len(old)] for channel in range(channels))

    if channels == preprocessing.image_shape[2]:
        return preprocessing
    shape = (*preprocessing.image_shape[:2], channels)
    mean, std = adapted(preprocessing.mean), adapted(preprocessing.std)
    return dataclasses.replace(preprocessing, image_shape=shape, mean=mean, std=std)


def stated_names(data_name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the class names of a data set, () if they are only numbers, as for arrays without class names."""
    return () if data_name == "arrays" and names == tuple(map(str, range(len(names)))) else names


def outputs_of(task: TaskKind | None, names: Sequence[str]) -> int:
    """Returns the number of outputs of a head for these classes."""
    return 1 if task == "binary" else len(names)


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} classes)" if len(names) > most else "")

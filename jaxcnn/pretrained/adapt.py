"""Weights brought to other images and classes than those that they are for."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
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


def fit(
    origin: "Pretrained",
    variables: dict[str, Any],
    has: int,
    outputs: int,
    input_shape: tuple[int, int, int],
    class_names: Sequence[str] = (),
    **arguments: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Variables of a model with `has` outputs, for `outputs` and images of `input_shape`; and what was done.

    Where `class_names` are given, and the source's are known, a head for other classes is fresh, and one for the same
    classes in another order is reordered.
    """
    changes, takes, channels = [], stem_channels(origin, variables), input_shape[2]
    if takes != channels:
        if "stem_conv" not in variables["params"]:
            raise UserError(f"{origin.source}: {origin.name} has no stem_conv to adapt from {takes} channels to {channels}")
        variables = weights.adapt_stem(variables, channels)
        changes.append(f"stem_conv/kernel adapted from {takes} channels to {channels}")
    if origin.arguments is not None:  # models that no other library has may have parameters that depend on the size
        flat = flax.traverse_util.flatten_dict(variables)
        weights.check_shapes(origin.name, flat, input_shape, **arguments | {"num_classes": has})
    order = head_order(origin, has, outputs, class_names)
    if order == list(range(outputs)):
        return variables, changes
    what = f"{outputs} classes instead of {has}"
    if has == outputs:
        what, axes = class_difference(origin.named(has), class_names), weights.class_axes(origin.name, input_shape, **arguments)
        if order:
            changes.append("its head is brought to the data set's order of the classes")
            return weights.reordered(variables, axes, order), changes
        variables = weights.without_classes(variables, axes)
    arguments |= {"num_classes": outputs}
    variables, fresh = weights.with_fresh(origin.name, variables, input_shape=input_shape, **arguments)
    return variables, [*changes, f"fresh for {what}: {', '.join(fresh)}"] if fresh else changes


def head_order(origin: "Pretrained", has: int, outputs: int, class_names: Sequence[str]) -> list[int] | None:
    """Which of the source's outputs each of `outputs` is; None: its classes are others, and a head has to be fresh.

    The number alone decides where the names of the classes, the source's or `class_names`, are not known.
    """
    same = list(range(outputs))
    theirs, ours = ([normalize("NFC", name.strip()) for name in names] for names in (origin.named(has), class_names))
    if has != outputs:
        return None
    if not (theirs and ours) or theirs == ours or (published.is_imagenet(theirs) and published.is_imagenet(ours)):
        return same
    if Counter(theirs) != Counter(ours) or len(set(theirs)) < len(theirs) or outputs != len(theirs):
        return None  # two classes that share one output have no order
    return [theirs.index(name) for name in ours]


def class_difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """The text 'ours instead of theirs', without the names that both have."""
    new, gone = ([name for name in some if name not in others] or some for some, others in ((ours, theirs), (theirs, ours)))
    return f"{_listed(new)} instead of {_listed(gone)}"


def known_differences(
    origin: "Pretrained", task: LabelKind, arguments: Mapping[str, Any], has: int, class_names: Sequence[str]
) -> list[str]:
    """What a user should know who takes these weights, with their head, for this task and these arguments of the model."""
    lines = []
    if not (origin.named(has) and class_names):
        lines.append("its head is kept, for it has as many classes as the data set; whether they are the same is not known")
    if origin.task not in (None, task):
        lines.append(f"its head was trained for a {origin.task} task, this one is {task}")
    given = {key: value for key, value in (origin.arguments or {}).items() if key != "dtype"}
    if origin.arguments is not None and json.dumps(given, sort_keys=True) != json.dumps(dict(arguments), sort_keys=True):
        lines.append(f"its model.arguments were {given}")
    return lines


def other_preprocessing(origin: "Pretrained", preprocessing: Preprocessing) -> list[str]:
    """How the source states that its images were brought to their size, where `preprocessing` does it otherwise."""
    fields = {"size": "input size", "fit": "data.fit", "crop_ratio": "data.crop_ratio", "interpolation": "data.interpolation"}
    theirs, ours = dataclasses.asdict(origin.preprocessing), dataclasses.asdict(preprocessing)
    different = [
        f"{setting} {theirs[field]}, here {ours[field]}" for field, setting in fields.items() if theirs[field] != ours[field]
    ]
    return [f"it was trained with {'; '.join(different)}"] if different and not origin.assumed else []


def stem_channels(origin: "Pretrained", variables: Mapping[str, Any]) -> int:
    """How many channels the images of these weights have."""
    if origin.arguments is not None:  # ours, which say it; a stem may be depthwise, or have another name
        return origin.preprocessing.image_shape[2]
    return variables["params"]["stem_conv"]["kernel"].shape[2]


def for_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """The same for images of `channels` channels: for grey the average of mean and std, for others those in turn."""

    def values(of: tuple[float, ...]) -> tuple[float, ...]:
        return (float(np.mean(of)),) if channels == 1 else tuple(of[channel % len(of)] for channel in range(channels))

    if channels == preprocessing.image_shape[2]:
        return preprocessing
    shape = (*preprocessing.image_shape[:2], channels)
    mean, std = values(preprocessing.mean), values(preprocessing.std)
    return dataclasses.replace(preprocessing, image_shape=shape, mean=mean, std=std)


def stated_names(data_name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a data set's classes; () where they are only numbers, as for arrays without class names."""
    return () if data_name == "arrays" and names == tuple(map(str, range(len(names)))) else names


def outputs_of(task: LabelKind | None, names: Sequence[str]) -> int:
    """How many outputs a head for these classes has."""
    return 1 if task == "binary" else len(names)


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)} classes)" if len(names) > most else "")

"""A data set by name: found, cut into its parts, brought to one size, checked."""

import dataclasses
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data import formats, splits
from jaxcnn.data.folder import folder
from jaxcnn.data.huggingface import from_hugging_face
from jaxcnn.data.one_size import with_one_size
from jaxcnn.data.samples import check_window
from jaxcnn.data.settings import DataSettings
from jaxcnn.data.sources import Dataset, EncodedSource, FileSource, Source, Subset
from jaxcnn.data.table import table
from jaxcnn.data.tfds import prepared
from jaxcnn.errors import UserError, did_you_mean, printable
from jaxcnn.files import user_path
from jaxcnn.settings import refuse_without_effect

SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": formats.digits,
    "mnist": formats.mnist,
    "fashion_mnist": formats.fashion_mnist,
    "cifar10": formats.cifar10,
    "cifar100": formats.cifar100,
    "arrays": formats.arrays,
}
PICTURES: dict[str, Callable[..., Dataset]] = {"folder": folder, "csv": table}
"""Sets of encoded pictures; these take `group` too."""
LIBRARIES: dict[str, Callable[..., Dataset]] = {"tfds": prepared, "huggingface": from_hugging_face}
"""Sets that a library describes, LIBRARY:NAME; of these the splits and features can be chosen."""


def load(config: DataSettings, seed: int) -> Dataset:
    """The data set that the settings `data.*` name, in three parts, all images of one size.

        dataset = load(DataSettings(name="digits"), seed=0)

    A test set is cut off where there is none of its own, the same one whatever the seed; then a validation set.

    Raises:
      UserError: an unknown name, a missing, empty or truncated file, labels outside the classes.
    """
    known = [*SOURCES, *PICTURES]
    library, colon, name = config.name.partition(":")
    described = bool(colon) and library in LIBRARIES
    if config.name not in known and not described:
        near, there = did_you_mean(config.name, known), ", ".join([*known, "tfds:NAME", "huggingface:OWNER/NAME"])
        raise UserError(f"data.name: no data set {config.name!r}{near}; there are {there}")
    parts = {part: getattr(config, f"{part}_split") for part in ("train", "validation", "test")}
    refuse_without_effect(config)
    if config.name != "digits" and not config.root and not described:
        raise UserError(f"data.root: say where {config.name} lies, --config.data.root=PATH")
    root = user_path(config.root)
    if config.name == "folder":
        dataset = folder(root, group=config.group, splits=parts)
    elif config.name in PICTURES:
        dataset = PICTURES[config.name](root, group=config.group)
    elif described:
        dataset = LIBRARIES[library](name, config.root, parts, config.features)
    else:
        dataset = SOURCES[config.name](root)
    if config.window:
        dataset = _with_window(dataset, config)
    for part, source in dataset.parts().items():
        if source.labels is not None:
            _check_labels(source.labels, len(dataset.class_names), f"{config.name}, {part}")
    if config.balanced and dataset.train.labels is None:
        raise UserError(f"data.balanced: {config.name} has no labels here to draw equally often; set it to False")
    names = _names(dataset, root if root.is_dir() else root.parent)
    sized = with_one_size(_with_three_parts(dataset, names, config, seed), config, seed)
    return dataclasses.replace(sized, notes=tuple(printable(note) for note in dataset.notes))


def _names(dataset: Dataset, root: Path) -> np.ndarray | None:
    """What decides the part of each training example: its group, or its file's path below `root`; None for its index."""
    if dataset.groups is not None:
        return dataset.groups.astype(str)
    if not isinstance(dataset.train, FileSource):
        return None
    start = os.path.join(root, "")
    return np.array([str(path).removeprefix(start).replace(os.sep, "/") for path in dataset.train.paths])


def _with_window(dataset: Dataset, config: DataSettings) -> Dataset:
    check_window(config.window)
    changes: dict[str, Any] = {}
    for part, source in dataset.parts().items():
        if not isinstance(source, EncodedSource):
            raise UserError(f"data.window: {config.name} holds 8-bit arrays; a window is for pictures of more than 8 bits")
        changes[part] = dataclasses.replace(source, window=config.window)
    return dataclasses.replace(dataset, **changes)


def _with_three_parts(dataset: Dataset, names: np.ndarray | None, config: DataSettings, seed: int) -> Dataset:
    if dataset.test is None:
        if not config.test:
            raise UserError(f"data.test: {config.name} has no test set; set data.test to the share of the images to cut off")
        larger, smaller = _share(dataset, names, "test", config.test, 0)
        dataset, names = _cut_off(dataset, "test", larger, smaller), None if names is None else names[larger]
    if config.fold:
        if not (match := re.fullmatch(r"(\d+)/(\d+)", config.fold)) or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f'data.fold: {config.fold!r} is not a fold; write "2/5" for the second of five')
        if dataset.validation is not None:
            raise UserError(f"data.fold: {config.name} has a validation set of its own")
        which, folds = int(match[1]) - 1, int(match[2])
        _check_classes(dataset, "fold", folds if names is None else 2)
        labels = _stratified_by(dataset.train)
        if names is None:
            return _cut_off(dataset, "validation", *splits.fold(labels, which, folds, seed))
        return _cut_off(dataset, "validation", *splits.fold_by_name(labels, which, folds, f"fold {seed}", names))
    if dataset.validation is None and config.validation:
        return _cut_off(dataset, "validation", *_share(dataset, names, "validation", config.validation, seed))
    return dataset


def _share(dataset: Dataset, names: np.ndarray | None, part: str, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The training set without `part`, and `part`, which has room for every class."""
    _check_classes(dataset, part, 2)
    labels, many = _stratified_by(dataset.train), math.ceil(share * len(dataset.train))
    if names is not None:
        return splits.cut_by_name(labels, share, f"{part} {seed}", names)
    if labels.ndim == 1 and many < (classes := len(np.unique(labels))):
        raise UserError(
            f"data.{part}: {share:g} of {len(labels):,} images are {many}, too few for one of each of {classes} classes; "
            "take a larger share" + (", or 0 for no validation set" if part == "validation" else "")
        )
    return splits.cut(labels, share, seed)


def _stratified_by(source: Source) -> np.ndarray:
    """The labels; (N, 0) without labels, which a split treats as several labels per image: it does not stratify."""
    return np.zeros((len(source), 0), np.int32) if source.labels is None else source.labels


def _check_classes(dataset: Dataset, setting: str, least: int) -> None:
    """Raises UserError, which names it, where a class has fewer images than a stratified split needs."""
    labels = dataset.train.labels
    if labels is None or labels.ndim == 2 or dataset.groups is not None:
        return
    for name, count in zip(dataset.class_names, np.bincount(labels), strict=False):
        if 0 < count < least:
            raise UserError(
                f'data.{setting}: images left to split of the class "{name}": {count}, but {least} are needed; '
                "add images, or leave the class out"
            )


def _cut_off(dataset: Dataset, name: str, larger: np.ndarray, smaller: np.ndarray) -> Dataset:
    groups = None if dataset.groups is None else dataset.groups[larger]
    changes: dict[str, Any] = {name: Subset(dataset.train, smaller)}
    return dataclasses.replace(dataset, train=Subset(dataset.train, larger), groups=groups, **changes)


def _check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    if labels.ndim == 2:
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
        expected = "zeros and ones"
        if labels.shape[1] != num_classes:
            raise UserError(f"{what}: {labels.shape[1]} labels per image, but {num_classes} class names")
    else:
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        expected = f"0 to {num_classes - 1}, for {num_classes} classes"
    if wrong.size:
        raise UserError(f"{what}: example {wrong[0]} has the label {labels[wrong[0]]}, outside {expected}")

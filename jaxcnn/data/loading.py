"""Loads a data set by its name: finds and checks it, splits it, and resizes its images to one size."""

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
from jaxcnn.data.map_folders import map_folders
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
"""Data sets that are read into memory."""
PICTURES: dict[str, Callable[..., Dataset]] = {"folder": folder, "csv": table, "maps": map_folders}
"""Data sets of image files; these accept the setting data.group."""
LIBRARIES: dict[str, Callable[..., Dataset]] = {"tfds": prepared, "huggingface": from_hugging_face}
"""Data sets of other libraries, named LIBRARY:NAME; their splits and features can be chosen."""


def load(config: DataSettings, seed: int) -> Dataset:
    """Returns the data set that the settings `data.*` describe: its splits, with all images of one size.

        dataset = load(DataSettings(name="digits"), seed=0)

    If the data set has no test split, one is split off its training data, independently of `seed`; then a validation split,
    which depends on `seed`, if data.validation > 0.

    Raises:
      UserError: the name is unknown, a file is missing, empty or truncated, or a label is outside the classes.
    """
    known = [*SOURCES, *PICTURES]
    library, colon, name = config.name.partition(":")
    from_library = bool(colon) and library in LIBRARIES
    if config.name not in known and not from_library:
        similar, available = did_you_mean(config.name, known), ", ".join([*known, "tfds:NAME", "huggingface:OWNER/NAME"])
        raise UserError(f"data.name: no data set {config.name!r}{similar}; available: {available}")
    split_names = {split: getattr(config, f"{split}_split") for split in ("train", "validation", "test")}
    refuse_without_effect(config)
    if config.name != "digits" and not config.root and not from_library:
        raise UserError(f"data.root: set the path of {config.name}: --config.data.root=PATH")
    root = user_path(config.root)
    if config.name == "folder":
        dataset = folder(root, group=config.group, splits=split_names)
    elif config.name in PICTURES:
        dataset = PICTURES[config.name](root, group=config.group, classes=config.classes)
    elif from_library:
        dataset = LIBRARIES[library](name, config.root, split_names, config.features, config.classes)
    else:
        dataset = SOURCES[config.name](root)
    if config.window:
        dataset = _with_window(dataset, config)
    for split, source in dataset.parts().items():
        if source.labels is not None:
            _check_labels(source.labels, len(dataset.class_names), f"{config.name}, {split}")
    if config.balanced and dataset.train.labels is None:
        raise UserError(f"data.balanced: {config.name} has no labels; set it to False")
    names = _names(dataset, root if root.is_dir() else root.parent)
    sized = with_one_size(_with_splits(dataset, names, config, seed), config, seed)
    return dataclasses.replace(sized, notes=tuple(printable(note) for note in dataset.notes))


def _names(dataset: Dataset, root: Path) -> np.ndarray | None:
    """Returns the names (N,) by which training examples are split: groups, or paths of files below `root`; None: by index."""
    if dataset.groups is not None:
        return dataset.groups.astype(str)
    if not isinstance(dataset.train, FileSource):
        return None
    start = os.path.join(root, "")
    return np.array([str(path).removeprefix(start).replace(os.sep, "/") for path in dataset.train.paths])


def _with_window(dataset: Dataset, config: DataSettings) -> Dataset:
    check_window(config.window)
    changes: dict[str, Any] = {}
    for split, source in dataset.parts().items():
        if not isinstance(source, EncodedSource):
            raise UserError(f"data.window: {config.name} has 8-bit images; a window applies to images with more than 8 bits")
        changes[split] = dataclasses.replace(source, window=config.window)
    return dataclasses.replace(dataset, **changes)


def _with_splits(dataset: Dataset, names: np.ndarray | None, config: DataSettings, seed: int) -> Dataset:
    if dataset.test is None:
        if not config.test:
            raise UserError(f"data.test: {config.name} has no test set; set data.test to the share of images to split off")
        larger, smaller = _share(dataset, names, "test", config.test, 0)
        dataset, names = _cut_off(dataset, "test", larger, smaller), None if names is None else names[larger]
    if config.fold:
        if not (match := re.fullmatch(r"(\d+)/(\d+)", config.fold)) or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f'data.fold: expected a fold such as "2/5", the second of five, got {config.fold!r}')
        if dataset.validation is not None:
            raise UserError(f"data.fold: {config.name} already has a validation set")
        fold, folds = int(match[1]) - 1, int(match[2])
        _check_classes(dataset, "fold", folds if names is None else 2)
        labels = _stratified_by(dataset.train)
        if names is None:
            return _cut_off(dataset, "validation", *splits.fold(labels, fold, folds, seed))
        return _cut_off(dataset, "validation", *splits.fold_by_name(labels, fold, folds, f"fold {seed}", names))
    if dataset.validation is None and config.validation:
        return _cut_off(dataset, "validation", *_share(dataset, names, "validation", config.validation, seed))
    return dataset


def _share(dataset: Dataset, names: np.ndarray | None, split: str, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the remaining training examples and of `split`, which contains every class."""
    _check_classes(dataset, split, 2)
    labels, count = _stratified_by(dataset.train), math.ceil(share * len(dataset.train))
    if names is not None:
        return splits.cut_by_name(labels, share, f"{split} {seed}", names)
    if labels.ndim == 1 and count < (classes := len(np.unique(labels))):
        raise UserError(
            f"data.{split}: {share:g} of {len(labels):,} images are {count}, too few for one of each of {classes} classes; "
            "set a larger share" + (", or 0 for no validation set" if split == "validation" else "")
        )
    return splits.cut(labels, share, seed)


def _stratified_by(source: Source) -> np.ndarray:
    """Returns the labels; without labels an array (N, 0), which like several labels per image is not stratified."""
    return np.zeros((len(source), 0), np.int32) if source.labels is None else source.labels


def _check_classes(dataset: Dataset, setting: str, least: int) -> None:
    """Raises UserError if a class has fewer than `least` images, which a stratified split needs."""
    labels = dataset.train.labels
    if labels is None or labels.ndim == 2 or dataset.groups is not None:
        return
    for name, count in zip(dataset.class_names, np.bincount(labels), strict=False):
        if 0 < count < least:
            raise UserError(
                f'data.{setting}: the class "{name}" has too few images to split, {count} of at least {least}; '
                "add images, or remove the class"
            )


def _cut_off(dataset: Dataset, split: str, larger: np.ndarray, smaller: np.ndarray) -> Dataset:
    """Moves the training examples `smaller` to another split and keeps `larger`; both are indices."""
    groups = None if dataset.groups is None else dataset.groups[larger]
    changes: dict[str, Any] = {split: Subset(dataset.train, smaller)}
    return dataclasses.replace(dataset, train=Subset(dataset.train, larger), groups=groups, **changes)


def _check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    if labels.ndim == 2:
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
        expected = "zeros and ones"
        if labels.shape[1] != num_classes:
            raise UserError(f"{where}: {labels.shape[1]} labels per image, but {num_classes} class names")
    else:
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        expected = f"0 to {num_classes - 1}, for {num_classes} classes"
    if wrong.size:
        raise UserError(f"{where}: example {wrong[0]} has the label {labels[wrong[0]]}, outside {expected}")

"""A data set by name: found, cut into its parts, brought to one size, checked."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxcnn.data import formats, splits
from jaxcnn.data.decode import picture_format
from jaxcnn.data.folder import folder, table
from jaxcnn.data.huggingface import from_hugging_face
from jaxcnn.data.sources import Dataset, EncodedSource, Resized, Source, Subset, innermost
from jaxcnn.data.tfds import prepared
from jaxcnn.errors import UserError, did_you_mean

SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": formats.digits,
    "mnist": formats.mnist,
    "fashion_mnist": formats.fashion_mnist,
    "cifar10": formats.cifar10,
    "cifar100": formats.cifar100,
    "arrays": formats.arrays,
}
PICTURES: dict[str, Callable[..., Dataset]] = {"folder": folder, "csv": table}
"""Sets of encoded pictures; these take `channels` and `group` too."""
LIBRARIES: dict[str, Callable[..., Dataset]] = {"tfds": prepared, "huggingface": from_hugging_face}
"""Sets that a library describes, LIBRARY:NAME; of these the splits and features can be chosen."""


def load(config: ConfigDict, seed: int) -> Dataset:
    """The data set that the settings `data.*` name, in three parts, all images of one size.

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
    for setting in () if described else ("train_split", "validation_split", "test_split", "features"):
        if config[setting]:
            raise UserError(f"data.{setting}: {config.name} has none to choose from; sets of {' and '.join(LIBRARIES)} have")
    if config.name != "digits" and not config.root and not described:
        raise UserError(f"data.root: say where {config.name} lies, --config.data.root=PATH")
    root = Path(config.root).expanduser()
    if config.name in PICTURES:
        dataset = PICTURES[config.name](root, group=config.group)
    elif config.group:
        raise UserError(f"data.group: {config.name} has no names to find groups in; {' and '.join(PICTURES)} have")
    elif described:
        parts = {part: config[f"{part}_split"] for part in ("train", "validation", "test")}
        dataset = LIBRARIES[library](name, config.root, parts, config.features)
    else:
        dataset = SOURCES[config.name](root)
    for part, source in dataset.parts().items():
        _check_labels(source.labels, len(dataset.class_names), f"{config.name}, {part}")
    return _with_one_size(_with_three_parts(dataset, config, seed), config, seed)


def _with_three_parts(dataset: Dataset, config: ConfigDict, seed: int) -> Dataset:
    if dataset.test is None:
        if not config.test:
            raise UserError(f"data.test: {config.name} has no test set of its own; say what share of it shall be one")
        dataset = _cut_off(dataset, "test", splits.cut(dataset.train.labels, config.test, 0, dataset.groups))
    if config.fold:
        if not (match := re.fullmatch(r"(\d+)/(\d+)", config.fold)) or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f'data.fold: {config.fold!r} is no fold; write "2/5" for the second of five')
        if dataset.validation is not None:
            raise UserError(f"data.fold: {config.name} has a validation set of its own")
        parts = splits.fold(dataset.train.labels, int(match[1]) - 1, int(match[2]), seed, dataset.groups)
        return _cut_off(dataset, "validation", parts)
    if dataset.validation is None and config.validation:
        parts = splits.cut(dataset.train.labels, config.validation, seed, dataset.groups)
        return _cut_off(dataset, "validation", parts)
    return dataset


def _cut_off(dataset: Dataset, name: str, parts: tuple[np.ndarray, np.ndarray]) -> Dataset:
    larger, smaller = parts
    groups = None if dataset.groups is None else dataset.groups[larger]
    changes: dict[str, Any] = {name: Subset(dataset.train, smaller)}
    return dataclasses.replace(dataset, train=Subset(dataset.train, larger), groups=groups, **changes)


def _with_one_size(dataset: Dataset, config: ConfigDict, seed: int) -> Dataset:
    """Pictures of any size as `Resized`; others as they are."""
    if dataset.train.image_shape is not None:
        if config.random_crop:
            raise UserError(f"data.random_crop: {config.name} has images of one size; data.augment can crop those")
        return dataset
    if config.channels not in (0, 1, 3):
        raise UserError(f"data.channels: pictures have 1 or 3, not {config.channels}")
    crop = _random_crop(config.random_crop)
    channels, size = _format(dataset.train)
    channels, size = config.channels or channels, config.image_size or size

    def resized(source: Source, crop: tuple = ()) -> Source:
        return Resized(_with_channels(source, channels), (size, size, channels), config.fit, config.crop_ratio, crop, seed)

    changes: dict[str, Any] = {part: resized(source) for part, source in dataset.parts().items()}
    return dataclasses.replace(dataset, **changes | {"train": resized(dataset.train, crop)})


def _with_channels(source: Source, channels: int) -> Source:
    if isinstance(source, Subset):
        return dataclasses.replace(source, source=_with_channels(source.source, channels))
    assert isinstance(source, EncodedSource)
    return source.with_channels(channels)


def _format(source: Source, sample: int = 100) -> tuple[int, int]:
    """(channels, side) found in some pictures: 1 if all are grey, and about the median of their shorter sides."""
    channels, sides = 1, []
    for index in np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int):
        inner, place = innermost(source, int(index))
        assert isinstance(inner, EncodedSource)
        try:
            height, width, grey = picture_format(inner.encoded(place), inner.name(place))
        except UserError:
            continue  # said when it is read in earnest
        channels = channels if grey else 3
        sides.append(min(height, width))
    if not sides:
        raise UserError(f"{source.name(0)}, and {sample} others of this data set, can't be read")
    return channels, min(224, max(32, int(np.median(sides)) // 32 * 32))


def _random_crop(setting: tuple) -> tuple:
    right = len(setting) == 2 and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair) and 0 < pair[0] <= pair[1]
        for pair in setting
    )
    if setting and not (right and setting[0][1] <= 1):
        raise UserError(f"data.random_crop: {setting!r} is no pair of ranges such as ((0.08, 1.0), (0.75, 1.33))")
    return setting


def _check_labels(labels: np.ndarray, num_classes: int, what: str) -> None:
    if labels.ndim == 2:
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
        expected = "zeros and ones"
        if labels.shape[1] != num_classes:
            raise UserError(f"{what}: {labels.shape[1]} labels an image, but {num_classes} class names")
    else:
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        expected = f"0 to {num_classes - 1}, for {num_classes} classes"
    if wrong.size:
        raise UserError(f"{what}: example {wrong[0]} has the label {labels[wrong[0]]}, outside {expected}")

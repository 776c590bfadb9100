"""A data set by name: found, cut into its parts, brought to one size, checked."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxcnn.data import formats, splits
from jaxcnn.data.decode import picture_format, read_bytes
from jaxcnn.data.folder import FileSource, folder, table
from jaxcnn.data.sources import ArraySource, Dataset, Resized, Source, Subset, none_readable
from jaxcnn.data.tfds import TfdsSource, prepared
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
"""Sets of encoded pictures; these take `group` too."""


def load(config: ConfigDict, seed: int) -> Dataset:
    """The data set that the settings `data.*` name, in three parts, all images of one size.

    A test set is cut off where there is none of its own, the same one whatever the seed; then a validation set.

    Raises:
      UserError: an unknown name, a missing, empty or truncated file, labels outside the classes.
    """
    known = [*SOURCES, *PICTURES]
    from_tfds = config.name.startswith("tfds:")
    if config.name not in known and not from_tfds:
        raise UserError(
            f"data.name: no data set {config.name!r}{did_you_mean(config.name, known)}; there are {', '.join(known)}, tfds:NAME"
        )
    for setting in () if from_tfds else ("train_split", "validation_split", "test_split", "features"):
        if config[setting]:
            raise UserError(f"data.{setting}: {config.name} has none to choose from; sets of TFDS have, tfds:NAME")
    if config.name != "digits" and not config.root and not from_tfds:
        raise UserError(f"data.root: say where {config.name} lies, --config.data.root=PATH")
    root = Path(config.root).expanduser()
    if config.name in PICTURES:
        dataset = PICTURES[config.name](root, group=config.group)
    elif config.group:
        raise UserError(f"data.group: {config.name} has no names to find groups in; {' and '.join(PICTURES)} have")
    elif from_tfds:
        parts = {part: config[f"{part}_split"] for part in ("train", "validation", "test")}
        dataset = prepared(config.name.removeprefix("tfds:"), config.root, parts, config.features)
    else:
        dataset = SOURCES[config.name](root)
    for part, source in dataset.parts().items():
        _check_labels(source.labels, len(dataset.class_names), f"{config.name}, {part}")
    return _with_one_size(_with_three_parts(dataset, config, seed), config, seed)


def _with_three_parts(dataset: Dataset, config: ConfigDict, seed: int) -> Dataset:
    if dataset.test is None:
        if not config.test:
            raise UserError(f"data.test: {config.name} has no test set of its own; say what share of it shall be one")
        dataset = _cut_off(dataset, "test", _share(dataset, "test", config.test, 0))
    if config.fold:
        if not (match := re.fullmatch(r"(\d+)/(\d+)", config.fold)) or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f'data.fold: {config.fold!r} is no fold; write "2/5" for the second of five')
        if dataset.validation is not None:
            raise UserError(f"data.fold: {config.name} has a validation set of its own")
        _check_classes(dataset, "fold", int(match[2]))
        parts = splits.fold(dataset.train.labels, int(match[1]) - 1, int(match[2]), seed, dataset.groups)
        return _cut_off(dataset, "validation", parts)
    if dataset.validation is None and config.validation:
        return _cut_off(dataset, "validation", _share(dataset, "validation", config.validation, seed))
    return dataset


def _share(dataset: Dataset, part: str, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`splits.cut` of the training set, where what is cut off has room for every class."""
    _check_classes(dataset, part, 2)
    labels, many = dataset.train.labels, math.ceil(share * len(dataset.train))
    if labels.ndim == 1 and dataset.groups is None and many < (classes := len(np.unique(labels))):
        raise UserError(
            f"data.{part}: {share:g} of {len(labels):,} images are {many}, too few for one of each of {classes} classes; "
            "take a larger share" + (", or 0 for no validation set" if part == "validation" else "")
        )
    return splits.cut(labels, share, seed, dataset.groups)


def _check_classes(dataset: Dataset, setting: str, least: int) -> None:
    """Raises UserError, which names it, where a class has fewer images than a stratified split needs."""
    if dataset.train.labels.ndim == 2 or dataset.groups is not None:
        return
    for name, count in zip(dataset.class_names, np.bincount(dataset.train.labels), strict=False):
        if 0 < count < least:
            raise UserError(
                f'data.{setting}: images left to split of the class "{name}": {count}, but {least} are needed; '
                "add images, or leave the class out"
            )


def _cut_off(dataset: Dataset, name: str, parts: tuple[np.ndarray, np.ndarray]) -> Dataset:
    larger, smaller = parts
    groups = None if dataset.groups is None else dataset.groups[larger]
    changes: dict[str, Any] = {name: Subset(dataset.train, smaller)}
    return dataclasses.replace(dataset, train=Subset(dataset.train, larger), groups=groups, **changes)


def _with_one_size(dataset: Dataset, config: ConfigDict, seed: int) -> Dataset:
    """Pictures of any size as `Resized`; others as they are, but for their channels."""
    if dataset.train.image_shape is not None:
        if config.random_crop:
            raise UserError(f"data.random_crop: {config.name} has images of one size; data.augment can crop those")
        stored = dataset.train.image_shape[2]
        if config.channels in (0, stored):
            return dataset
        if {stored, config.channels} != {1, 3}:
            raise UserError(
                f"data.channels: the images of {config.name} have {stored}, not {config.channels}; "
                "only grey (1) becomes RGB (3), and RGB grey"
            )
        converted: dict[str, Any] = {part: _with_channels(source, config.channels) for part, source in dataset.parts().items()}
        return dataclasses.replace(dataset, **converted)
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
    assert isinstance(source, ArraySource | FileSource | TfdsSource)
    return dataclasses.replace(source, channels=channels)


def _format(source: Source, sample: int = 100) -> tuple[int, int]:
    """(channels, side) found in some pictures: 1 if all are grey, and about the median of their shorter sides."""
    channels, sides = 1, []
    for index in np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int):
        name = source.name(int(index))
        try:
            height, width, grey = picture_format(_encoded(source, int(index)), name)
        except UserError:
            continue  # said when it is read in earnest
        channels = channels if grey else 3
        sides.append(min(height, width))
    if not sides:
        raise none_readable(source)
    return channels, min(224, max(32, int(np.median(sides)) // 32 * 32))


def _encoded(source: Source, index: int) -> bytes:
    if isinstance(source, Subset):
        return _encoded(source.source, int(source.indices[index]))
    return source.encoded_bytes(index) if isinstance(source, TfdsSource) else read_bytes(source.name(index))


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

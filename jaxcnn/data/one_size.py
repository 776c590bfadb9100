"""All images of a data set brought to one size, and to the channels that are asked for."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxcnn.data.cache import Cached
from jaxcnn.data.channels import has_color
from jaxcnn.data.decode import Center, image_format
from jaxcnn.data.reading import none_readable_error
from jaxcnn.data.settings import DataSettings
from jaxcnn.data.sizes import ONE_SIZE, height_and_width
from jaxcnn.data.sources import ArraySource, Dataset, EncodedSource, Resized, Source, Subset, innermost
from jaxcnn.data.tfds import TfdsArrays
from jaxcnn.errors import UserError
from jaxcnn.files import user_path


def with_one_size(dataset: Dataset, config: DataSettings, seed: int) -> Dataset:
    """What the settings `data.*` ask for. Pictures of any size become `Resized`; others have one already.

    Raises:
      UserError: settings that do not fit the images or each other; no picture can be read.
    """
    return _pictures(dataset, config, seed) if dataset.train.image_shape is None else _arrays(dataset, config)


def _arrays(dataset: Dataset, config: DataSettings) -> Dataset:
    assert dataset.train.image_shape is not None
    if config.random_crop:
        raise UserError(f"data.random_crop: {config.name} has images of one size; data.augment can crop those")
    if config.cache != "off":
        raise UserError(f"data.cache: {config.name} has images of one size, which data.resident keeps on the device")
    there = dataset.train.image_shape[2]
    if config.channels in (0, there):
        return dataset
    if {there, config.channels} != {1, 3}:
        raise UserError(
            f"data.channels: the images of {config.name} have {there}, not {config.channels}; "
            "only grey (1) becomes RGB (3), and RGB grey"
        )
    return _each(dataset, lambda _, source: _below(source, lambda stored: _with_channels(stored, config.channels)))


def _pictures(dataset: Dataset, config: DataSettings, seed: int) -> Dataset:
    if config.channels not in (0, 1, 3):
        raise UserError(f"data.channels: pictures have 1 or 3, not {config.channels}")
    if config.cache == "memory" and config.workers:
        raise UserError("data.cache: processes (data.workers) share no memory; take disk, or threads")
    crop = _random_crop(config.random_crop)
    side = _side(dataset.train)
    channels = config.channels or (3 if has_color(list(dataset.parts().values())) else 1)
    size = height, width = height_and_width(config.image_size or side)
    kept_for_crops = height_and_width(config.cache_side or (2 * height, 2 * width))
    known: dict[tuple[int, Center], Source] = {}  # parts that look alike share what is kept

    def stored(source: Source, kept: Center) -> Source:
        key = id(source), kept
        if key not in known:
            known[key] = _with_channels(source, channels)
            if config.cache != "off":
                known[key] = Cached(known[key], kept, channels, _cache_folder(config)).opened()
        return known[key]

    def resized(source: Source, crop: tuple) -> Source:
        center = config.fit, config.crop_ratio, config.interpolation
        kept = Center(kept_for_crops, "stretch") if crop else Center(size, *center)
        source = _below(source, lambda below: stored(below, kept))
        return Resized(source, (*size, channels), *center, crop, seed)

    return _each(dataset, lambda part, source: resized(source, crop if part == "train" else ()))


def as_evaluated(source: Source) -> Source:
    """The training set as evaluation and prediction see images: their centers instead of random crops.

    They come from the files: what data.cache keeps for random crops is another view of them.
    """
    if not isinstance(source, Resized) or not source.crop:
        return source
    below = _below(source.source, lambda stored: stored.source if isinstance(stored, Cached) else stored)
    return dataclasses.replace(source, source=below, crop=(), sizes=ONE_SIZE)


def _each(dataset: Dataset, change: Callable[[str, Source], Source]) -> Dataset:
    parts = {part: change(part, source) for part, source in dataset.parts().items()}
    return Dataset(parts["train"], parts.get("validation"), parts.get("test"), dataset.class_names, dataset.groups)


def _below(source: Source, change: Callable[[Source], Source]) -> Source:
    """`source` with another one below what takes a part of it."""
    if isinstance(source, Subset):
        return dataclasses.replace(source, source=_below(source.source, change))
    return change(source)


def _with_channels(source: Source, channels: int) -> Source:
    assert isinstance(source, ArraySource | EncodedSource | TfdsArrays)
    return dataclasses.replace(source, channels=channels)


def _cache_folder(config: DataSettings) -> Path | None:
    """None for memory."""
    if config.cache == "memory":
        return None
    if config.cache_folder:
        return user_path(config.cache_folder)
    root = user_path(config.root or "~/.cache/jaxcnn")
    return (root.parent if root.is_file() else root) / ".jaxcnn-cache"


def _side(source: Source, sample: int = 100) -> int:
    """About the median of the shorter sides of some pictures."""
    sides = []
    for index in np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int):
        inner, place = innermost(source, int(index))
        assert isinstance(inner, EncodedSource)
        try:
            height, width, _ = image_format(inner.encoded(place), inner.name(place))
        except UserError:
            continue  # said when it is read in earnest
        sides.append(min(height, width))
    if not sides:
        raise none_readable_error(source)
    return min(224, max(32, int(np.median(sides)) // 32 * 32))


def _random_crop(setting: tuple) -> tuple:
    right = len(setting) == 2 and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair) and 0 < pair[0] <= pair[1]
        for pair in setting
    )
    if setting and not (right and setting[0][1] <= 1):
        raise UserError(f"data.random_crop: {setting!r} is not a pair of ranges such as ((0.08, 1.0), (0.75, 1.33))")
    return setting

"""Resizes all images of a data set to one size, and converts them to gray or RGB."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.data.cache import Cached
from jaxcnn.data.channels import has_color
from jaxcnn.data.decode import Center
from jaxcnn.data.reading import none_readable_error
from jaxcnn.data.settings import DataSettings
from jaxcnn.data.sizes import ONE_SIZE, Size, height_and_width
from jaxcnn.data.sources import ArraySource, Dataset, EncodedSource, Resized, Source, Subset, innermost
from jaxcnn.data.tfds import TfdsArrays
from jaxcnn.errors import UserError
from jaxcnn.files import user_path


def with_one_size(dataset: Dataset, config: DataSettings, seed: int) -> Dataset:
    """Returns the data set with images of one size and of `data.channels`. Images of different sizes become `Resized`.

    Raises:
      UserError: settings do not fit the images or each other, or no image can be read.
    """
    return _images_of_any_size(dataset, config, seed) if dataset.train.image_shape is None else _arrays(dataset, config)


def _arrays(dataset: Dataset, config: DataSettings) -> Dataset:
    assert dataset.train.image_shape is not None
    if config.random_crop:
        raise UserError(f"data.random_crop: {config.name} has images of one size; use a random crop in data.augment instead")
    if config.cache != "off":
        raise UserError(f"data.cache: {config.name} has images of one size; data.resident=on keeps those on the device")
    stored_channels = dataset.train.image_shape[2]
    if config.channels in (0, stored_channels):
        return dataset
    if {stored_channels, config.channels} != {1, 3}:
        raise UserError(
            f"data.channels: cannot convert {stored_channels}-channel images of {config.name} to {config.channels} channels; "
            "only gray (1) and RGB (3) can be converted into each other"
        )
    return _each(dataset, lambda _, source: _below(source, lambda stored: _with_channels(stored, config.channels)))


def _images_of_any_size(dataset: Dataset, config: DataSettings, seed: int) -> Dataset:
    if config.channels not in (0, 1, 3):
        raise UserError(f"data.channels: expected 1 (gray) or 3 (RGB), got {config.channels}")
    if config.cache == "memory" and config.workers:
        raise UserError("data.cache: processes (data.workers) do not share memory; set it to disk, or data.workers to 0")
    crop = _random_crop(config.random_crop)
    channels = config.channels or (3 if has_color(list(dataset.parts().values())) else 1)
    typical_size = _typical_size(dataset.train)  # also raises UserError if no image can be read
    size = height, width = height_and_width(config.image_size or typical_size)
    kept_for_crops = height_and_width(config.cache_side or (2 * height, 2 * width))
    sources: dict[tuple[int, Center], Source] = {}  # splits of one source that keep the same view share a cache

    def stored(source: Source, kept: Center) -> Source:
        key = id(source), kept
        if key not in sources:
            sources[key] = _with_channels(source, channels)
            if config.cache != "off":
                sources[key] = Cached(sources[key], kept, channels, _cache_folder(config)).opened()
        return sources[key]

    def resized(source: Source, crop: tuple) -> Source:
        center = config.fit, config.crop_ratio, config.interpolation
        kept = Center(kept_for_crops, "stretch") if crop else Center(size, *center)
        source = _below(source, lambda below: stored(below, kept))
        return Resized(source, (*size, channels), *center, crop, seed)

    return _each(dataset, lambda split, source: resized(source, crop if split == "train" else ()))


def as_evaluated(source: Source) -> Source:
    """Returns the training set with the centers of its images, as in evaluation and prediction, instead of random crops.

    Images are read from their files, as data.cache keeps another view for random crops.
    """
    if not isinstance(source, Resized) or not source.crop:
        return source
    below = _below(source.source, lambda stored: stored.source if isinstance(stored, Cached) else stored)
    return dataclasses.replace(source, source=below, crop=(), sizes=ONE_SIZE)


def _each(dataset: Dataset, change: Callable[[str, Source], Source]) -> Dataset:
    sources: dict[str, Any] = {split: change(split, source) for split, source in dataset.parts().items()}
    return dataclasses.replace(dataset, **sources)


def _below(source: Source, change: Callable[[Source], Source]) -> Source:
    """Returns `source` with `change` applied to the source below its subsets."""
    if isinstance(source, Subset):
        return dataclasses.replace(source, source=_below(source.source, change))
    return change(source)


def _with_channels(source: Source, channels: int) -> Source:
    assert isinstance(source, ArraySource | EncodedSource | TfdsArrays)
    return dataclasses.replace(source, channels=channels)


def _cache_folder(config: DataSettings) -> Path | None:
    """The folder of data.cache=disk; None for data.cache=memory."""
    if config.cache == "memory":
        return None
    if config.cache_folder:
        return user_path(config.cache_folder)
    root = user_path(config.root or "~/.cache/jaxcnn")
    return (root.parent if root.is_file() else root) / ".jaxcnn-cache"


def _typical_size(source: Source, sample: int = 100) -> Size:
    """Returns the (height, width) to which images of any size are resized by default, from up to `sample` of them.

    For images with class maps, it is their common size or, if they differ, their median height and width, rounded down to
    multiples of 32. Otherwise it is a square of their median shorter side, rounded down in the same way, of at most 224 pixels.
    """
    sizes = []
    for index in np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int):
        inner, position = innermost(source, int(index))
        assert isinstance(inner, EncodedSource)
        try:
            height, width, _ = inner.header(position)
        except UserError:
            continue  # reported when the image is read for training or evaluation
        sizes.append((height, width))
    if not sizes:
        raise none_readable_error(source)
    if source.has_maps and len(set(sizes)) == 1:
        return sizes[0]
    medians = np.median(sizes, axis=0) if source.has_maps else np.minimum(224, np.median(np.min(sizes, axis=1))).repeat(2)
    height, width = np.maximum(32, medians // 32 * 32).astype(int).tolist()
    return height, width


def _random_crop(setting: tuple) -> tuple:
    are_ranges = len(setting) == 2 and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair) and 0 < pair[0] <= pair[1]
        for pair in setting
    )
    if setting and not (are_ranges and setting[0][1] <= 1):
        raise UserError(
            f"data.random_crop: expected ranges of area and aspect ratio, such as ((0.08, 1.0), (0.75, 1.33)), got {setting!r}"
        )
    return setting

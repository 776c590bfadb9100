"""Examines a data set: the content of its files, its classes, and examples as training receives them."""

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data
from jaxcnn.config import Config
from jaxcnn.data.decode import View
from jaxcnn.data.inspect import Inspection, inspect, labels_of, stored
from jaxcnn.errors import UserError
from jaxcnn.report.data_counts import ClassCounts, count_classes

TIMES = 5  # number of augmented versions shown of each example


@dataclasses.dataclass(frozen=True)
class Example:
    """A training image as stored, as used in evaluation, and as used in training the first few times; (H, W, C) uint8 each.

    `targets` has the "map", "boxes" and "classes" of these images, in this order and in pixels of each image.
    """

    name: str
    label: str
    stored: np.ndarray
    evaluated: np.ndarray
    trained: Sequence[np.ndarray]
    targets: Sequence[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Found:
    """The results of `examine`."""

    config: Config
    dataset: data.Dataset
    preprocessing: data.Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inspection: Inspection
    examples: Sequence[Example]
    counts: Sequence[ClassCounts]
    mixes: bool
    """True if the augmentation mixes the images of a batch."""
    seconds: float


def examine(config: Config, *, sample: int = 20_000) -> Found:
    """Examines the data set of a validated config. At most `sample` image files are read in full.

    Raises:
      UserError: the settings are wrong, or the data set can't be loaded. Single unreadable files are among the results.
    """
    start = time.monotonic()
    augment = data.make_augmentation(config.data.augment, config.data.repeats)
    dataset = data.load(config.data, config.seed)
    kinds = [field.kind for field in dataset.train.fields.values()]
    if not any(_defined(augment, kind) for kind in kinds):
        augment.check_fields(kinds)
    measured = data.make_preprocessing(dataclasses.replace(config.data, mean=(), std=()), dataset.train)
    mean, std = config.data.mean or measured.mean, config.data.std or measured.std
    preprocessing = data.make_preprocessing(dataclasses.replace(config.data, mean=mean, std=std), dataset.train)
    inspection = inspect(dataset, sample=sample, threads=config.data.threads)
    examples = training_examples(dataset, preprocessing, augment, config)
    return Found(
        config,
        dataset,
        preprocessing,
        measured.mean,
        measured.std,
        inspection,
        examples,
        count_classes(dataset),
        augment.mixes,
        time.monotonic() - start,
    )


def training_examples(
    dataset: data.Dataset,
    preprocessing: data.Preprocessing,
    augment: data.Augmentation,
    config: Config,
    count: int = 8,
    times: int = TIMES,
) -> list[Example]:
    """Returns `count` training images before augmentation and as they enter the network the first `times` times.

    Each image is augmented at its position in the order of training (without data.repeats) with the key of that step, so its
    pixels are exactly those of training. The other rows of its batch are filled with the other examples, so images are mixed
    with those. Maps and boxes are transformed with the pixels; they are omitted if the augmentation is not defined for them.
    """
    source, size, seed, batch_size = dataset.train, len(dataset.train), config.seed, config.batch_size
    balanced = config.data.balanced and source.column("label").ndim == 1
    order = data.BalancedOrder(source.column("label"), seed) if balanced else data.Order(size, seed)
    chosen = _varied(source, order[np.arange(size)], count)
    before = _targets(source, np.array(chosen))
    images = np.stack([source.read(i) for i in chosen])
    originals = stored(source)
    inputs, moved = preprocessing.with_fields(jnp.asarray(images), jax.tree.map(jnp.asarray, before))
    evaluated, resized = _shown(inputs, preprocessing), jax.tree.map(np.asarray, moved)

    @jax.jit
    def as_in_training(
        images: jax.Array, fields: data.Batch, index: jax.Array, epoch: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, data.Batch]:
        augment_key, _, mix_key = data.step_keys(seed, step)
        places = {"run_key": data.key_of_run(seed), "index": index, "epoch": epoch}
        inputs, moved = preprocessing.with_fields(
            images, fields, lambda images, fields: augment.with_fields(images, fields, augment_key, **places)
        )
        inputs, mixed = augment.mix(inputs, moved.get("map", jnp.zeros((len(images), 1))), mix_key)
        return inputs, dict(moved) | ({"map": mixed} if "map" in moved else {})

    occurrences = _occurrences(order, size, chosen, times)
    views = [data.training_view(source, place) for _, place in occurrences]
    images = np.stack([source.read(chosen[k], view) for (k, _), view in zip(occurrences, views, strict=True)])
    targets = _targets(source, np.array([chosen[k] for k, _ in occurrences]), views)
    targets = {name: rows for name, rows in targets.items() if _defined(augment, "map" if name == "map" else "boxes")}
    steps, rows = np.divmod([place for _, place in occurrences], batch_size)
    trained: list[list[np.ndarray]] = [[] for _ in chosen]
    targets_trained: list[list[dict[str, np.ndarray]]] = [[] for _ in chosen]
    for step in np.unique(steps):
        in_step = np.flatnonzero(steps == step)
        batch = {}
        for name, array in {"image": images, **targets}.items():
            batch[name] = np.resize(array, (batch_size, *array.shape[1:]))  # fills the batch by repetition
            batch[name][rows[in_step]] = array[in_step]
        places = step * batch_size + np.arange(batch_size)
        index, epoch = order[places].astype(np.int32), (places // size).astype(np.int32)
        inputs, moved = as_in_training(batch.pop("image"), batch, index, epoch, np.int32(step))
        shown = _shown(inputs[rows[in_step]], preprocessing)
        for (k, _), row, image in zip((occurrences[i] for i in in_step), rows[in_step], shown, strict=True):
            trained[k].append(image)
            targets_trained[k].append({name: np.asarray(array[row]) for name, array in moved.items()})

    return [
        Example(
            source.name(index),
            class_list(dataset, labels_of(source, index)) if source.labels is not None else "",
            originals.read(index),
            evaluated[k],
            trained[k],
            [
                {name: array[0] for name, array in _targets(originals, np.array([index])).items()},
                {name: array[k] for name, array in resized.items()},
                *targets_trained[k],
            ],
        )
        for k, index in enumerate(chosen)
    ]


def _targets(source: data.Source, indices: np.ndarray, views: Sequence[View | None] = ()) -> dict[str, np.ndarray]:
    """Returns the maps and boxes of the examples at `indices`; `views` are the views of their images, if any."""
    targets = {name: rows for name, rows in source.rows(indices).items() if name != "label"}
    if source.has_maps:
        views = views or [None] * len(indices)
        targets["map"] = np.stack([source.read_map(int(i), view) for i, view in zip(indices, views, strict=True)])
    return targets


def _defined(augment: data.Augmentation, kind: str) -> bool:
    """Returns whether the augmentation is defined for targets of this kind."""
    try:
        augment.check_fields((kind,))
    except UserError:
        return False
    return True


def _occurrences(order: data.Order | data.BalancedOrder, size: int, chosen: Sequence[int], times: int) -> list[tuple[int, int]]:
    """Returns (position in `chosen`, place in the order) of the first `times` occurrences of each image, sorted by place.

    With data.balanced, an image of a frequent class may be absent from many epochs, so the search is limited.
    """
    occurrences: list[tuple[int, int]] = []
    seen: Counter[int] = Counter()
    for epoch in range(20 * times):
        indices = order[epoch * size + np.arange(size)]
        for offset in np.flatnonzero(np.isin(indices, chosen)).tolist():
            k = chosen.index(int(indices[offset]))
            if seen[k] < times:
                seen[k] += 1
                occurrences.append((k, epoch * size + offset))
        if len(occurrences) == times * len(chosen):
            break
    return occurrences


def _varied(source: data.Source, order: np.ndarray, count: int) -> list[int]:
    """Returns the first `count` readable indices in `order`, one of each class before a second one of any class."""
    order = np.array(list(dict.fromkeys(order[:10_000].tolist())))  # a balanced order contains indices repeatedly
    if source.labels is not None and source.labels.ndim == 1:
        times: Counter[int] = Counter()
        rounds = []
        for label in source.labels[order].tolist():
            rounds.append(times[label])
            times[label] += 1
        order = order[np.argsort(rounds, kind="stable")]
    chosen: list[int] = []
    for index in order.tolist():
        if data.read_or_none(source, index) is not None:
            chosen.append(index)
        if len(chosen) == count:
            break
    if not chosen:
        raise data.none_readable_error(source)
    return chosen


def _shown(inputs: jax.Array, preprocessing: data.Preprocessing) -> np.ndarray:
    """Converts inputs of the network back to uint8 images by undoing the normalization."""
    pixels = (np.asarray(inputs) * np.array(preprocessing.std) + np.array(preprocessing.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def class_list(dataset: data.Dataset, classes: Sequence[int] | np.ndarray) -> str:
    """Returns the names of classes as text, such as "roses | tulips"."""
    return " | ".join(dataset.class_names[i] for i in classes) or "none"

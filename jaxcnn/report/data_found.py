"""What is known of a data set: what its files hold, and how the trainer sees its examples."""

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data
from jaxcnn.config import Config
from jaxcnn.data.inspect import Inspection, inspect, labels_of, stored
from jaxcnn.errors import UserError
from jaxcnn.report.data_counts import ClassCounts, count_classes

TIMES = 5  # that an example is shown augmented


@dataclasses.dataclass(frozen=True)
class Example:
    """One training image, as it is stored, as it is evaluated, and as training sees it the first few times; all uint8.

    `targets` are what lies on these images, in the same order: "map", "boxes" and "classes", in pixels of each.
    """

    name: str
    label: str
    stored: np.ndarray
    evaluated: np.ndarray
    trained: Sequence[np.ndarray]
    targets: Sequence[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Found:
    """All that is known of a data set."""

    config: Config
    dataset: data.Dataset
    preprocessing: data.Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inspection: Inspection
    examples: Sequence[Example]
    counts: Sequence[ClassCounts]
    mixes: bool
    """whether the augmentation mixes the images of a batch"""
    seconds: float


def examine(config: Config, *, sample: int = 20_000) -> Found:
    """Looks at the data that a validated config names; at most `sample` picture files are read in full.

    Raises:
      UserError: the settings are wrong, or the data can't be loaded at all. A file that can't be read is a finding.
    """
    start = time.monotonic()
    augment = data.make_augmentation(config.data.augment, config.data.repeats)
    dataset = data.load(config.data, config.seed)
    if dataset.train.labels is None:
        augment.check_fields([field.kind for field in dataset.train.fields.values()])
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
    many: int = 8,
    times: int = TIMES,
) -> list[Example]:
    """Some training images as they enter the network the first `times` that it sees them, and before augmentation.

    They are found at their places in the training's order (data.repeats aside), in the batch of that step, augmented with
    the step's key: the pixels are those of training. Only the other rows of the batch hold images that are shown, not
    their own, so mixup and cutmix mix with those. Maps and boxes move with the pixels; where images are mixed, none are shown.
    """
    source, size, seed, batch_size = dataset.train, len(dataset.train), config.seed, config.batch_size
    balanced = config.data.balanced and source.column("label").ndim == 1
    order = data.BalancedOrder(source.column("label"), seed) if balanced else data.Order(size, seed)
    chosen = _varied(source, order[np.arange(size)], many)
    before = _targets(source, np.array(chosen))
    images = np.stack([source.read(i) for i in chosen])
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
        return augment.mix(inputs, jnp.zeros((len(images), 1)), mix_key)[0], dict(moved)

    looks = _looks(order, size, chosen, times)
    images = np.stack([source.read(chosen[k], data.training_view(source, place)) for k, place in looks])
    targets = _targets(source, np.array([chosen[k] for k, _ in looks])) if _keeps_targets(augment) else {}
    steps, rows = np.divmod([place for _, place in looks], batch_size)
    trained: list[list[np.ndarray]] = [[] for _ in chosen]
    targets_trained: list[list[dict[str, np.ndarray]]] = [[] for _ in chosen]
    for step in np.unique(steps):
        here = np.flatnonzero(steps == step)
        batch = {}
        for name, array in {"image": images, **targets}.items():
            batch[name] = np.resize(array, (batch_size, *array.shape[1:]))  # repeated over and over
            batch[name][rows[here]] = array[here]
        places = step * batch_size + np.arange(batch_size)
        index, epoch = order[places].astype(np.int32), (places // size).astype(np.int32)
        inputs, moved = as_in_training(batch.pop("image"), batch, index, epoch, np.int32(step))
        shown = _shown(inputs[rows[here]], preprocessing)
        for (k, _), row, image in zip((looks[i] for i in here), rows[here], shown, strict=True):
            trained[k].append(image)
            targets_trained[k].append({name: np.asarray(array[row]) for name, array in moved.items()})

    originals = stored(source)
    return [
        Example(
            source.name(index),
            class_list(dataset, labels_of(source, index)) if source.labels is not None else "",
            originals.read(index),
            evaluated[k],
            trained[k],
            [*({name: array[k] for name, array in of.items()} for of in (before, resized)), *targets_trained[k]],
        )
        for k, index in enumerate(chosen)
    ]


def _targets(source: data.Source, indices: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that have a place on the images."""
    return {name: rows for name, rows in source.rows(indices).items() if name != "label"}


def _keeps_targets(augment: data.Augmentation) -> bool:
    """Whether maps and boxes mean something after the augmentation."""
    try:
        augment.check_fields(("map", "boxes"))
    except UserError:
        return False
    return True


def _looks(order: data.Order | data.BalancedOrder, size: int, chosen: Sequence[int], times: int) -> list[tuple[int, int]]:
    """(which of `chosen`, place) of the first `times` that training comes to each of them, in the order of places.

    With data.balanced an image of a common class may be missing from many epochs; the search ends after some.
    """
    looks: list[tuple[int, int]] = []
    seen: Counter[int] = Counter()
    for epoch in range(20 * times):
        indices = order[epoch * size + np.arange(size)]
        for offset in np.flatnonzero(np.isin(indices, chosen)).tolist():
            k = chosen.index(int(indices[offset]))
            if seen[k] < times:
                seen[k] += 1
                looks.append((k, epoch * size + offset))
        if len(looks) == times * len(chosen):
            break
    return looks


def _varied(source: data.Source, order: np.ndarray, many: int) -> list[int]:
    """The first indices of `order` that can be read, one of each class before a second of any."""
    order = np.array(list(dict.fromkeys(order[:10_000].tolist())))  # a balanced one has some of them twice
    if source.labels is not None and source.labels.ndim == 1:
        times: Counter[int] = Counter()
        rounds = []
        for label in source.labels[order].tolist():
            rounds.append(times[label])
            times[label] += 1
        order = order[np.argsort(rounds, kind="stable")]
    chosen: list[int] = []
    for index in order.tolist():
        try:
            source.read(index)
        except UserError:
            continue
        chosen.append(index)
        if len(chosen) == many:
            break
    if not chosen:
        raise data.none_readable_error(source)
    return chosen


def _shown(inputs: jax.Array, preprocessing: data.Preprocessing) -> np.ndarray:
    """A network's input as uint8 images again: normalisation undone."""
    pixels = (np.asarray(inputs) * np.array(preprocessing.std) + np.array(preprocessing.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def class_list(dataset: data.Dataset, classes: Sequence[int] | np.ndarray) -> str:
    """Their names: roses | tulips."""
    return " | ".join(dataset.class_names[i] for i in classes) or "none"

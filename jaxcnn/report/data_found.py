"""What is known of a data set: what its files hold, and how the trainer sees its examples."""

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn import data
from jaxcnn.config import Config
from jaxcnn.data.inspect import Inspection, inspect, labels_of, stored
from jaxcnn.errors import UserError

TIMES = 5  # that an example is shown augmented


@dataclasses.dataclass(frozen=True)
class Example:
    """One training image, as it is stored, as it is evaluated, and as training sees it the first few times; all uint8."""

    name: str
    label: str
    stored: np.ndarray
    evaluated: np.ndarray
    trained: Sequence[np.ndarray]


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
    measured = data.make_preprocessing(dataclasses.replace(config.data, mean=(), std=()), dataset.train)
    mean, std = config.data.mean or measured.mean, config.data.std or measured.std
    preprocessing = data.make_preprocessing(dataclasses.replace(config.data, mean=mean, std=std), dataset.train)
    inspection = inspect(dataset, sample=sample, threads=config.data.threads)
    examples = training_examples(
        dataset, preprocessing, augment, seed=config.seed, batch_size=config.batch_size, balanced=config.data.balanced
    )
    seconds = time.monotonic() - start
    return Found(config, dataset, preprocessing, measured.mean, measured.std, inspection, examples, augment.mixes, seconds)


def training_examples(
    dataset: data.Dataset,
    preprocessing: data.Preprocessing,
    augment: data.Augmentation,
    *,
    seed: int,
    batch_size: int,
    balanced: bool = False,
    many: int = 8,
    times: int = TIMES,
) -> list[Example]:
    """Some training images as they enter the network the first `times` that it sees them, and before augmentation.

    They are found at their places in the training's order (data.repeats aside), in the batch of that step, augmented with
    the step's key: the pixels are those of training. Only the other rows of the batch hold images that are shown, not
    their own, so mixup and cutmix mix with those.
    """
    source, size = dataset.train, len(dataset.train)
    order = (
        data.BalancedOrder(source.column("label"), seed)
        if balanced and source.column("label").ndim == 1
        else data.Order(size, seed)
    )
    chosen = _varied(source, order[np.arange(size)], many)
    evaluated = _shown(preprocessing(jnp.asarray(np.stack([source[i] for i in chosen]))), preprocessing)

    @jax.jit
    def as_in_training(images: jax.Array, index: jax.Array, epoch: jax.Array, step: jax.Array) -> jax.Array:
        augment_key, _, mix_key = data.step_keys(seed, step)
        places = {"run_key": data.key_of_run(seed), "index": index, "epoch": epoch}
        inputs = preprocessing(images, lambda images: augment(images, augment_key, **places))
        return augment.mix(inputs, jnp.zeros((len(images), 1)), mix_key)[0]

    looks = _looks(order, size, chosen, times)
    images = np.stack([source.at(chosen[k], place) for k, place in looks])
    steps, rows = np.divmod([place for _, place in looks], batch_size)
    trained: list[list[np.ndarray]] = [[] for _ in chosen]
    for step in np.unique(steps):
        here = np.flatnonzero(steps == step)
        batch = np.resize(images, (batch_size, *images.shape[1:]))  # repeated over and over
        batch[rows[here]] = images[here]
        places = step * batch_size + np.arange(batch_size)
        index, epoch = order[places].astype(np.int32), (places // size).astype(np.int32)
        shown = _shown(as_in_training(batch, index, epoch, np.int32(step))[rows[here]], preprocessing)
        for (k, _), image in zip((looks[i] for i in here), shown, strict=True):
            trained[k].append(image)

    originals = stored(source)
    return [
        Example(source.name(index), _label(dataset, index), originals[index], evaluated[k], trained[k])
        for k, index in enumerate(chosen)
    ]


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
            source[index]
        except UserError:
            continue
        chosen.append(index)
        if len(chosen) == many:
            break
    if not chosen:
        raise source.none_readable()
    return chosen


def _shown(inputs: jax.Array, preprocessing: data.Preprocessing) -> np.ndarray:
    """A network's input as uint8 images again: normalisation undone."""
    pixels = (np.asarray(inputs) * np.array(preprocessing.std) + np.array(preprocessing.mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _label(dataset: data.Dataset, index: int) -> str:
    return class_list(dataset, labels_of(dataset.train, index))


def class_list(dataset: data.Dataset, classes: Sequence[int] | np.ndarray) -> str:
    """Their names: roses | tulips."""
    return " | ".join(dataset.class_names[i] for i in classes) or "none"

"""Order and batches: from a source on the host to batches on the devices.

What a batch holds is a function of its place in the training alone: `Order` says which example stands where. The two
readers, `resident` and `streamed`, only differ in where the pixels wait, and give the same batches.
"""

import concurrent.futures
import dataclasses
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data.sources import Resized, Source, none_readable
from jaxcnn.errors import RunFailed, UserError

Batch = dict[str, jax.Array]
"""K batches, B sharded over "data": image (K, B, H, W, C) uint8, label (K, B) or (K, B, classes) int32, mask (K, B) bool,
and index and epoch (K, B) int32: which example it is, and how often the data have been gone through before."""

RESIDENT_BYTES = 2 * 2**30


class Places(Protocol):
    """Which example stands at each place of a sequence."""

    training: ClassVar[bool]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """(n,) places -> (n,) indices of examples; -1 where nothing stands."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The endless sequence of training: in each epoch a permutation of its own, decided by (seed, epoch).

    With `repeats`, each example stands that often in a row, and an epoch of as many places ends as much earlier in it.
    """

    size: int
    seed: int
    repeats: int = 1
    training: ClassVar[bool] = True

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return _by_epoch(places, self.size, lambda epoch: _permutation(self.size, self.seed, epoch, self.repeats))


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone: what is cached for it goes by identity
class BalancedOrder:
    """The same where every class comes equally often: an epoch goes round each class as often as it takes."""

    labels: np.ndarray
    seed: int
    training: ClassVar[bool] = True

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return _by_epoch(places, len(self.labels), lambda epoch: _balanced(self, epoch))


def _by_epoch(places: np.ndarray, size: int, epoch_order: Callable[[int], np.ndarray]) -> np.ndarray:
    """What stands at `places`, where epoch e is the `size` indices epoch_order(e)."""
    epochs, offsets = np.divmod(places, size)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_order(int(epoch))[offsets[here]]
    return indices


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int, repeats: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size).repeat(repeats)[:size]


@functools.lru_cache(maxsize=4)
def _balanced(order: BalancedOrder, epoch: int) -> np.ndarray:
    labels, generator = order.labels, np.random.default_rng((order.seed, epoch))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    share = -(-len(labels) // len(classes))
    drawn = [
        np.concatenate([generator.permutation(members) for _ in range(-(-share // len(members)))])[:share]
        for members in classes
    ]
    return generator.permutation(np.concatenate(drawn))[: len(labels)]


@dataclasses.dataclass(frozen=True)
class Once:
    """Every example once, in order, for evaluation; what is past the end is padding."""

    size: int
    training: ClassVar[bool] = False

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return np.where(places < self.size, places, -1)


Reader = Callable[[Places, int, int, Iterable[int]], Iterator[Batch]]
"""(places, start, B, counts): for each K of counts the next K batches of B examples, from place `start` on."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How examples are read; none of it changes a batch but `skip`.

    With `skip`, an image that can't be read does not stop the run: training takes the next one that can, evaluation
    leaves it out, and its name goes into `skipped`.
    """

    resident: str = "auto"
    threads: int = 4
    workers: int = 0
    skip: bool = False
    skipped: set[str] = dataclasses.field(default_factory=set)


def make_reader(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """The reader that the setting data.resident asks for: "on", "off", or "auto" by size."""
    cropped = isinstance(source, Resized) and source.crop
    if cropped and reading.resident == "on":
        raise UserError("data.resident: data.random_crop looks at each picture anew, so they can't be kept on the device")
    assert source.image_shape is not None
    fits = len(source) * math.prod(source.image_shape) <= RESIDENT_BYTES
    if not cropped and (reading.resident == "on" or (reading.resident == "auto" and fits)):
        return _resident(source, mesh, reading)
    return functools.partial(_streamed, source, mesh, reading)


def batches_once(reader: Reader, size: int, batch_size: int) -> Iterator[Batch]:
    """All `size` examples once, K = 1 batch at a time, the last one padded (mask False)."""
    return reader(Once(size), 0, batch_size, [1] * -(-size // batch_size))


def _resident(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """The whole source lies on the device; only indices travel."""
    everywhere, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
    with concurrent.futures.ThreadPoolExecutor() as pool:  # decoding lets go of Python's lock
        images = list(pool.map(lambda index: _readable(source, index, index, reading.skip), range(len(source))))
    readable = np.array([image is not None for image in images])
    reading.skipped.update(source.name(int(index)) for index in np.flatnonzero(~readable))
    if not readable.any():
        raise none_readable(source)
    instead = _next_readable(readable)
    everything = {"image": np.stack([images[index] for index in instead]), "label": source.labels}
    on_device = jax.device_put(everything, everywhere)

    @functools.partial(jax.jit, out_shardings=sharded)
    def gather(everything: Batch, indices: jax.Array, epochs: jax.Array) -> Batch:
        there = jnp.maximum(indices, 0)
        examples = {name: array[there] for name, array in everything.items()}
        return examples | {"mask": indices >= 0, "index": there, "epoch": epochs}

    def read(places: Places, start: int, batch_size: int, counts: Iterable[int]) -> Iterator[Batch]:
        for count in counts:
            end = start + count * batch_size
            indices = places[np.arange(start, end)].reshape(count, batch_size)
            epochs = np.arange(start, end).reshape(count, batch_size) // len(source)
            if not readable.all():
                indices = np.where(
                    indices < 0, -1, instead[indices] if places.training else np.where(readable[indices], indices, -1)
                )
            yield gather(on_device, *jax.device_put((indices.astype(np.int32), epochs.astype(np.int32)), sharded))
            start = end

    return read


def _readable(source: Source, index: int, place: int, skip: bool) -> np.ndarray | None:
    """Image `index` as it is seen at `place`, or None where it can't be read and may be skipped."""
    try:
        return source.at(index, place)
    except UserError:
        if not skip:
            raise
        return None


def _next_readable(readable: np.ndarray) -> np.ndarray:
    """For each index itself, or the next one that can be read."""
    indices = np.flatnonzero(readable)
    return indices[np.searchsorted(indices, np.arange(len(readable))) % len(indices)]


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """The examples at places `start`, `start` + 1, …, as Grain reads them."""

    source: Source
    places: Places
    start: int
    length: int
    skip: bool

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a process of its own: it ends with the run, also one that was killed."""
        self.__dict__.update(state)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, offset: int) -> dict[str, np.ndarray]:
        place = self.start + offset
        index = int(self.places[np.array([place])][0])
        mask, skipped, index = index >= 0, -1, max(index, 0)
        image = _readable(self.source, index, place, self.skip)
        if image is None:
            skipped, mask = index, self.places.training
            for step in range(1, len(self.source)):
                index = (skipped + step) % len(self.source)
                if (image := _readable(self.source, index, place, self.skip)) is not None:
                    break
            else:
                raise none_readable(self.source)
        return {
            "image": image,
            "label": np.asarray(self.source.labels[index]),
            "mask": np.asarray(mask),
            "index": np.asarray(index, np.int32),
            "epoch": np.asarray(place // len(self.source), np.int32),
            "skipped": np.asarray(skipped),
        }


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _streamed(
    source: Source, mesh: Mesh, reading: Reading, places: Places, start: int, batch_size: int, counts: Iterable[int]
) -> Iterator[Batch]:
    """The source stays on the host; Grain's threads, or processes with threads, read ahead."""
    counts = list(counts)
    sequence = _Sequence(source, places, start, sum(counts) * batch_size, reading.skip)
    options = grain.ReadOptions(num_threads=reading.threads, prefetch_buffer_size=max(reading.threads, 2))
    # batched first: processes are dealt whole elements, so only then are their batches those of threads
    dataset = grain.MapDataset.source(sequence).batch(batch_size).to_iter_dataset(options)
    if reading.workers:
        if not flags.FLAGS.is_parsed():  # Grain asks a flag of its own, in a notebook too
            flags.FLAGS.mark_as_parsed()
        # what a killed process leaves behind is cleaned up; that needs no warning
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=reading.workers, per_worker_buffer_size=2))
    batches = iter(dataset)
    sharded = NamedSharding(mesh, P(None, "data"))
    try:
        for count in counts:
            chunk = [next(batches) for _ in range(count)]
            stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *chunk)
            skipped = stacked.pop("skipped")
            reading.skipped.update(source.name(int(index)) for index in skipped[skipped >= 0])
            yield jax.device_put(stacked, sharded)
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise RunFailed(
            "data.workers: a process that reads examples was ended from outside, perhaps for want of memory; "
            "the last checkpoint is kept, and the same command goes on"
        ) from error
    finally:
        batches.close()

"""Order and batches: from a source on the host to batches on the devices.

What a batch holds is a function of its place in the training alone: `Order` says which example stands where. The two
readers, `resident` and `streamed`, only differ in where the pixels wait, and give the same batches.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data.sources import Source

Batch = dict[str, jax.Array]
"""image (K, B, H, W, C) uint8, label (K, B) or (K, B, classes) int32, mask (K, B) bool: K batches, B sharded over "data"."""

RESIDENT_BYTES = 2 * 2**30


class Places(Protocol):
    """Which example stands at each place of a sequence."""

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """(n,) places -> (n,) indices of examples; -1 where nothing stands."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The endless sequence of training: in each epoch a permutation of its own, decided by (seed, epoch)."""

    size: int
    seed: int

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        epochs, offsets = np.divmod(places, self.size)
        indices = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = _permutation(self.size, self.seed, int(epoch))[offsets[here]]
        return indices


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


@dataclasses.dataclass(frozen=True)
class Once:
    """Every example once, in order, for evaluation; what is past the end is padding."""

    size: int

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return np.where(places < self.size, places, -1)


Reader = Callable[[Places, int, int, Iterable[int]], Iterator[Batch]]
"""(places, start, B, counts): for each K of counts the next K batches of B examples, from place `start` on."""


def make_reader(source: Source, mesh: Mesh, *, resident: str, threads: int) -> Reader:
    """The reader that the setting data.resident asks for: "on", "off", or "auto" by size."""
    fits = len(source) * np.prod(source.image_shape) <= RESIDENT_BYTES
    if resident == "on" or (resident == "auto" and fits):
        return _resident(source, mesh)
    return functools.partial(_streamed, source, mesh, threads)


def batches_once(reader: Reader, size: int, batch_size: int) -> Iterator[Batch]:
    """All `size` examples once, K = 1 batch at a time, the last one padded (mask False)."""
    return reader(Once(size), 0, batch_size, [1] * -(-size // batch_size))


def _resident(source: Source, mesh: Mesh) -> Reader:
    """The whole source lies on the device; only indices travel."""
    everywhere, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
    everything = {
        "image": np.stack([source[i] for i in range(len(source))]),
        "label": source.labels,
    }
    everything = jax.device_put(everything, everywhere)

    @functools.partial(jax.jit, out_shardings=sharded)
    def gather(everything: Batch, indices: jax.Array) -> Batch:
        there = jnp.maximum(indices, 0)
        return {name: array[there] for name, array in everything.items()} | {"mask": indices >= 0}

    def read(places: Places, start: int, batch_size: int, counts: Iterable[int]) -> Iterator[Batch]:
        for count in counts:
            end = start + count * batch_size
            indices = places[np.arange(start, end)].reshape(count, batch_size).astype(np.int32)
            yield gather(everything, jax.device_put(indices, sharded))
            start = end

    return read


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """The examples at places `start`, `start` + 1, …, as Grain reads them."""

    source: Source
    places: Places
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        index = int(self.places[np.array([self.start + place])][0])
        labels = self.source.labels
        return {
            "image": self.source[max(index, 0)],
            "label": np.asarray(labels[max(index, 0)]),
            "mask": np.asarray(index >= 0),
        }


def _streamed(
    source: Source, mesh: Mesh, threads: int, places: Places, start: int, batch_size: int, counts: Iterable[int]
) -> Iterator[Batch]:
    """The source stays on the host; Grain's threads read ahead."""
    counts = list(counts)
    sequence = _Sequence(source, places, start, sum(counts) * batch_size)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4 * batch_size if threads else 0)
    examples = iter(grain.MapDataset.source(sequence).to_iter_dataset(options).batch(batch_size))
    sharded = NamedSharding(mesh, P(None, "data"))
    for count in counts:
        chunk = [next(examples) for _ in range(count)]
        yield jax.device_put(jax.tree.map(lambda *arrays: np.stack(arrays), *chunk), sharded)

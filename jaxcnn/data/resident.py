"""Batches of a data set that lies on the device whole: only indices travel."""

import concurrent.futures
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data.fields import PADDING
from jaxcnn.data.order import Places
from jaxcnn.data.reading import Batch, Reader, Reading, aligned, none_readable_error, read_or_none
from jaxcnn.data.replacement import Replacements
from jaxcnn.data.sources import Source

_TOGETHER = 64  # examples a task of the pool: one each took 2 seconds for CIFAR's 50,000


def resident(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """The whole source lies on the device; only indices travel."""
    everywhere, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
    assert source.image_shape is not None, "sizes differ: jaxcnn.data.load brings them to one"
    images = aligned((len(source), *source.image_shape))

    def read_one(index: int) -> bool:
        image = read_or_none(source, index) if reading.skip else source.read(index)
        if image is not None:
            images[index] = image
        return image is not None

    def read_some(start: int) -> list[bool]:
        some = slice(start, min(start + _TOGETHER, len(source)))
        if (several := source.read_batch(some)) is not None:
            images[some] = several
            return [True] * len(several)
        return [read_one(index) for index in range(some.start, some.stop)]

    with concurrent.futures.ThreadPoolExecutor() as pool:  # decoding lets go of Python's lock
        whole = np.concatenate(list(pool.map(read_some, range(0, len(source), _TOGETHER))))
    reading.skipped.update(source.name(int(index)) for index in np.flatnonzero(~whole))
    if not whole.any():
        raise none_readable_error(source)
    replacements = Replacements(source)
    on_device = jax.device_put({"image": images, **source.columns}, everywhere)

    def gather(everything: Batch, indices: jax.Array, epochs: jax.Array) -> Batch:
        there = jnp.maximum(indices, 0)
        examples = {name: array[there] for name, array in everything.items()}
        for name in [name for name in PADDING if name in examples]:
            mask = jnp.expand_dims(indices >= 0, range(indices.ndim, examples[name].ndim))
            examples[name] = jnp.where(mask, examples[name], jnp.array(PADDING[name], examples[name].dtype))
        return examples | {"mask": indices >= 0, "index": there, "epoch": epochs}

    @functools.cache
    def compiled(count: int, batch_size: int) -> jax.stages.Compiled:
        places = jax.ShapeDtypeStruct((count, batch_size), np.int32, sharding=sharded)
        return jax.jit(gather, out_shardings=sharded).lower(on_device, places, places).compile()

    def read(places: Places, start: int, batch_size: int, counts: Iterable[int], most: int = 0) -> Iterator[Batch]:
        counts = list(counts)
        if places.training:
            replacements.check(whole)
        for room in {max(count, most) for count in counts}:
            compiled(room, batch_size)  # now, before any clock runs
        return batches(places, start, batch_size, counts, most)

    def readable(places: Places, numbers: np.ndarray) -> np.ndarray:
        """The indices of the examples at these places: of replacements, or -1, in place of what can't be read."""
        indices = places[numbers]
        for row in np.flatnonzero(~whole[indices] & (indices >= 0)).tolist():
            index, draw = int(indices[row]), places.draw(int(numbers[row]))
            indices[row] = replacements.find(index, draw, lambda i: whole[i] or None)[0] if places.training else -1
        return indices

    size = len(source)

    def batches(places: Places, start: int, batch_size: int, counts: Iterable[int], most: int) -> Iterator[Batch]:
        for count in counts:
            end = start + count * batch_size
            numbers, room = np.arange(start, end), max(count, most)
            indices, epochs = np.full((room, batch_size), -1, np.int32), np.zeros((room, batch_size), np.int32)
            indices[:count] = readable(places, numbers).reshape(count, batch_size)
            epochs[:count] = numbers.reshape(count, batch_size) // size
            on_their_way = jax.device_put((indices, epochs), sharded)
            yield compiled(room, batch_size)(on_device, *on_their_way)
            start = end

    return read

"""Batches of a data set that is kept on the device: only indices are transferred per batch."""

import concurrent.futures
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data.fields import PADDING
from jaxcnn.data.order import ExampleOrder
from jaxcnn.data.reading import Batch, Reader, Reading, aligned, none_readable_error, read_example, read_or_none
from jaxcnn.data.replacement import Replacements
from jaxcnn.data.sources import Source

_EXAMPLES_PER_TASK = 64  # of the thread pool; with one each, CIFAR's 50,000 took 2 seconds


def resident(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """Reads the whole source, puts it on each device and returns the reader. Raises UserError if no image can be read."""
    everywhere, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))
    assert source.image_shape is not None, "images differ in size; jaxcnn.data.load resizes them"
    images = aligned((len(source), *source.image_shape))
    columns = {"image": images, **source.columns}
    if source.has_maps and "map" not in columns:
        columns["map"] = aligned((len(source), *source.image_shape[:2]))

    def read_one(index: int) -> bool:
        example = read_or_none(source, index) if reading.skip else read_example(source, index)
        for name, array in (example or {}).items():
            columns[name][index] = array
        return example is not None

    def read_task(start: int) -> list[bool]:
        indices = slice(start, min(start + _EXAMPLES_PER_TASK, len(source)))
        if (batch := source.read_batch(indices)) is not None:
            images[indices] = batch
            return [True] * len(batch)
        return [read_one(index) for index in range(indices.start, indices.stop)]

    with concurrent.futures.ThreadPoolExecutor() as pool:  # decoding releases Python's global lock
        is_readable = np.concatenate(list(pool.map(read_task, range(0, len(source), _EXAMPLES_PER_TASK))))
    reading.skipped.update(source.name(int(index)) for index in np.flatnonzero(~is_readable))
    if not is_readable.any():
        raise none_readable_error(source)
    replacements = Replacements(source)
    on_device = jax.device_put(columns, everywhere)

    def gather(columns: Batch, indices: jax.Array, epochs: jax.Array) -> Batch:
        rows = jnp.maximum(indices, 0)  # padding has the index -1
        examples = {name: array[rows] for name, array in columns.items()}
        for name in [name for name in PADDING if name in examples]:
            mask = jnp.expand_dims(indices >= 0, range(indices.ndim, examples[name].ndim))
            examples[name] = jnp.where(mask, examples[name], jnp.array(PADDING[name], examples[name].dtype))
        return examples | {"mask": indices >= 0, "index": rows, "epoch": epochs}

    @functools.cache
    def compiled(count: int, batch_size: int) -> jax.stages.Compiled:
        indices = jax.ShapeDtypeStruct((count, batch_size), np.int32, sharding=sharded)
        return jax.jit(gather, out_shardings=sharded).lower(on_device, indices, indices).compile()

    def read(order: ExampleOrder, start: int, batch_size: int, counts: Iterable[int], most: int = 0) -> Iterator[Batch]:
        counts = list(counts)
        if order.training:
            replacements.check(is_readable)
        for padded_count in {max(count, most) for count in counts}:
            compiled(padded_count, batch_size)  # here, not in `batches`, so that no measured time includes it
        return batches(order, start, batch_size, counts, most)

    def readable_indices(order: ExampleOrder, positions: np.ndarray) -> np.ndarray:
        """Returns the indices at `positions`; for an unreadable image that of its replacement, or -1 in evaluation."""
        indices = order[positions]
        for row in np.flatnonzero(~is_readable[indices] & (indices >= 0)).tolist():
            index, draw = int(indices[row]), order.draw(int(positions[row]))
            indices[row] = replacements.find(index, draw, lambda i: is_readable[i] or None)[0] if order.training else -1
        return indices

    size = len(source)

    def batches(order: ExampleOrder, start: int, batch_size: int, counts: Iterable[int], most: int) -> Iterator[Batch]:
        for count in counts:
            end = start + count * batch_size
            positions, padded_count = np.arange(start, end), max(count, most)
            indices = np.full((padded_count, batch_size), -1, np.int32)
            epochs = np.zeros((padded_count, batch_size), np.int32)
            indices[:count] = readable_indices(order, positions).reshape(count, batch_size)
            epochs[:count] = positions.reshape(count, batch_size) // size
            indices_and_epochs = jax.device_put((indices, epochs), sharded)
            yield compiled(padded_count, batch_size)(on_device, *indices_and_epochs)
            start = end

    return read

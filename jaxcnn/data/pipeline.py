"""Order and batches: from a source on the host to batches on the devices.

What a batch holds is a function of its place in the training alone: the order says which example stands where. The two
readers, resident and streamed, only differ in where the pixels wait, and give the same batches.
"""

import math
from collections.abc import Iterator

from jax.sharding import Mesh

from jaxcnn.data.order import Once
from jaxcnn.data.reading import Batch, Reader, Reading
from jaxcnn.data.resident import resident
from jaxcnn.data.sources import Resized, Source
from jaxcnn.data.streamed import streamed
from jaxcnn.errors import UserError

RESIDENT_BYTES = 2 * 2**30


def make_reader(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """The reader that the setting data.resident asks for: "on", "off", or "auto" by size."""
    cropped = isinstance(source, Resized) and source.crop
    if cropped and reading.resident == "on":
        raise UserError("data.resident: data.random_crop looks at each picture anew, so they can't be kept on the device")
    assert source.image_shape is not None
    maps = sum(math.prod(field.shape) for field in source.fields.values() if field.kind == "map")
    fits = len(source) * (math.prod(source.image_shape) + maps) <= RESIDENT_BYTES
    if not cropped and (reading.resident == "on" or (reading.resident == "auto" and fits)):
        return resident(source, mesh, reading)
    return streamed(source, mesh, reading)


def batches_once(reader: Reader, size: int, batch_size: int) -> Iterator[Batch]:
    """All `size` examples once, K = 1 batch at a time, the last one padded (mask False)."""
    return reader(Once(size), 0, batch_size, [1] * -(-size // batch_size))

"""From a source on the host to batches on the devices.

The content of a batch is a function of its position in training alone: the order defines which example is at which position.
There are two readers, resident and streamed. They differ in where the images are kept, and yield the same batches.
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
"""The largest data set, in bytes of uint8 images and maps, that data.resident=auto keeps on the device."""


def make_reader(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """Returns the reader for the setting data.resident: "on", "off", or "auto", which decides by size.

    Raises UserError if random crops exclude "on".
    """
    cropped = isinstance(source, Resized) and source.crop
    if cropped and reading.resident == "on":
        raise UserError(
            "data.resident: data.random_crop re-decodes every image, so images cannot be kept on the device; use off"
        )
    assert source.image_shape is not None
    maps = sum(math.prod(field.shape) for field in source.fields.values() if field.kind == "map")
    fits = len(source) * (math.prod(source.image_shape) + maps) <= RESIDENT_BYTES
    if not cropped and (reading.resident == "on" or (reading.resident == "auto" and fits)):
        return resident(source, mesh, reading)
    return streamed(source, mesh, reading)


def batches_once(reader: Reader, size: int, batch_size: int) -> Iterator[Batch]:
    """Yields all `size` examples once, as K = 1 batch at a time. The last batch is padded (mask False)."""
    return reader(Once(size), 0, batch_size, [1] * -(-size // batch_size))

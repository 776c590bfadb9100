"""A data source in which some images cannot be read."""

import dataclasses

import numpy as np

from jaxcnn.data import Source
from jaxcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Broken(Source):
    """Images of one pixel, whose value is the image's index; the images in `broken` cannot be read."""

    labels: np.ndarray | None
    broken: frozenset[int]

    @property
    def image_shape(self):
        return 1, 1, 1

    def read(self, index, view=None):
        if index in self.broken:
            raise UserError(f"{self.name(index)}: broken")
        return np.full((1, 1, 1), index, np.uint8)

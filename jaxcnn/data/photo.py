"""A photo as a network gets it, and the way back from the network's pixels to the photo's pixels."""

import dataclasses

import numpy as np

from jaxcnn.data.decode import Window, decode, read_bytes
from jaxcnn.data.fields import VOID
from jaxcnn.data.samples import IntensityWindow


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """A picture file that was read for a network. Points are x, y; the centre of the first pixel is at (0.5, 0.5)."""

    file: str
    image: np.ndarray
    """(H, W, C) uint8: what the network's preprocessing takes"""
    size: tuple[int, int]
    """(height, width) of the whole photo, upright"""
    window: Window
    """the rectangle of the upright photo that `image` shows; where data.fit=pad, it reaches beyond the photo"""
    resized: Window
    """the rectangle of `image` that the network's input shows; where data.resize=pad, it reaches beyond the image"""
    intensity: IntensityWindow = ()
    """of more than 8 bits, see data.window"""

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) float in pixels of the network's input -> the same in pixels of the photo.

        They may lie outside of it where the input shows more than the photo.
        """
        return _inside_out(self.window, _inside_out(self.resized, np.asarray(points, np.float64)))

    def map_to_photo(self, values: np.ndarray) -> np.ndarray:
        """A map (h, w) over the network's input -> (height, width) of the photo: nearest, VOID where `image` shows nothing."""
        (inside_rows, rows), (inside_columns, columns) = (self._cells(axis, values.shape[axis]) for axis in (0, 1))
        whole = np.full(self.size, VOID, values.dtype)
        whole[np.ix_(inside_rows, inside_columns)] = values[np.ix_(rows, columns)]
        return whole

    def _cells(self, axis: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """The photo's rows (axis 0) or columns that `image` shows, and where each lies in the input cut into `cells`."""
        start, length, size = _side(self.window, axis)
        places = (np.arange(self.size[axis]) + 0.5 - start) * (size / length)
        inside = np.flatnonzero((places >= 0) & (places < size))
        start, length, _ = _side(self.resized, axis)
        cell = np.floor((places[inside] - start) * (cells / length)).astype(int)
        return inside, np.clip(cell, 0, cells - 1)

    def original(self) -> np.ndarray:
        """The whole photo upright, (height, width, 3) uint8 RGB. Raises UserError where the file can't be read any more."""
        return decode(read_bytes(self.file), self.file, 3, window=self.intensity)


def _inside_out(window: Window, points: np.ndarray) -> np.ndarray:
    """x, y in pixels of what a window shows -> in pixels of what it is a rectangle of."""
    rows, columns = window.size
    return np.array([window.left, window.top]) + points * np.array([window.width / columns, window.height / rows])


def _side(window: Window, axis: int) -> tuple[float, float, int]:
    """(start, length, size it is resized to) along the rows (axis 0) or the columns."""
    return ((window.top, window.height), (window.left, window.width))[axis] + (window.size[axis],)

"""A photo as a network's input, and the mapping from pixels of the input back to pixels of the photo."""

import dataclasses

import numpy as np

from jaxcnn.data.decode import Window, decode, read_bytes
from jaxcnn.data.fields import VOID
from jaxcnn.data.samples import IntensityWindow


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """An image file that was read for a network. Points are (x, y); the center of the first pixel is at (0.5, 0.5)."""

    file: str
    image: np.ndarray
    """(H, W, C) uint8, the input of the network's preprocessing"""
    size: tuple[int, int]
    """(height, width) of the full photo, upright"""
    window: Window
    """the rectangle of the upright photo that `image` shows; with data.fit=pad it extends beyond the photo"""
    resized: Window
    """the rectangle of `image` that the network's input shows; with data.resize=pad it extends beyond the image"""
    intensity: IntensityWindow = ()
    """intensity window of images of more than 8 bits, see data.window"""

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Converts points (…, 2) from pixels of the network's input to pixels of the photo, float64.

        Points may be outside of the photo if the input is padded.
        """
        return _inside_out(self.window, _inside_out(self.resized, np.asarray(points, np.float64)))

    def map_to_photo(self, values: np.ndarray) -> np.ndarray:
        """Resizes a map (h, w) of the network's input to the photo's (height, width): nearest neighbor, VOID outside."""
        (inside_rows, rows), (inside_columns, columns) = (self._cells(axis, values.shape[axis]) for axis in (0, 1))
        photo_map = np.full(self.size, VOID, values.dtype)
        photo_map[np.ix_(inside_rows, inside_columns)] = values[np.ix_(rows, columns)]
        return photo_map

    def inside(self, height: int, width: int) -> np.ndarray:
        """Returns whether each pixel of a network's input of this size is inside the photo, (height, width) bool."""
        centers = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
        points = self.to_photo(centers * (np.array(self.resized.size[::-1]) / (width, height)))
        return np.all((points >= 0) & (points < self.size[::-1]), axis=-1)

    def _cells(self, axis: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the photo's rows (axis 0) or columns that `image` shows, and the index of each among the input's `cells`."""
        start, length, size = _side(self.window, axis)
        positions = (np.arange(self.size[axis]) + 0.5 - start) * (size / length)
        inside = np.flatnonzero((positions >= 0) & (positions < size))
        start, length, _ = _side(self.resized, axis)
        cell = np.floor((positions[inside] - start) * (cells / length)).astype(int)
        return inside, np.clip(cell, 0, cells - 1)

    def original(self) -> np.ndarray:
        """Returns the full photo, upright, (height, width, 3) uint8 RGB. Raises UserError if the file can no longer be read."""
        return decode(read_bytes(self.file), self.file, 3, window=self.intensity)


def _inside_out(window: Window, points: np.ndarray) -> np.ndarray:
    """Converts (x, y) from pixels of a resized window to pixels of the image that the window is cut from."""
    rows, columns = window.size
    return np.array([window.left, window.top]) + points * np.array([window.width / columns, window.height / rows])


def _side(window: Window, axis: int) -> tuple[float, float, int]:
    """Returns (start, length, resized length) of a window along axis 0 or 1."""
    return ((window.top, window.height), (window.left, window.width))[axis] + (window.size[axis],)

"""Blur: defocus, frosted glass, motion, zoom, and Gaussian blur. Arguments and results as in `noise.py`."""

import functools
import math

import cv2
import numpy as np
from scipy import ndimage


def smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """Returns values (H, W) or (H, W, C), blurred with a Gaussian of `sigma` pixels that is cut off at 4 sigma."""
    return ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=4, axes=(0, 1))


def gaussian_blur(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Blurs with a Gaussian."""
    return smoothed(image / 255, sigma)


def defocus_blur(image: np.ndarray, rng: np.random.Generator, radius: float, edge: float) -> np.ndarray:
    """Blurs with a disk, as a lens that is out of focus."""
    return cv2.filter2D(image / 255, -1, _disk(radius, edge))


@functools.lru_cache
def _disk(radius: float, edge: float) -> np.ndarray:
    """Returns a disk with sum 1, (K, K) float32, smoothed with a Gaussian of 3×3 pixels, or 5×5 if the radius exceeds 8."""
    reach, size = (8, 3) if radius <= 8 else (math.ceil(radius), 5)
    offsets = np.arange(-reach, reach + 1)
    disk = np.hypot(offsets[:, None], offsets) <= radius
    return cv2.GaussianBlur(disk.astype(np.float32) / np.float32(disk.sum()), (size, size), edge)


def glass_blur(image: np.ndarray, rng: np.random.Generator, sigma: float, reach: int, repetitions: int) -> np.ndarray:
    """Replaces pixels with random pixels near them, between two Gaussian blurs, as frosted glass.

    The original is meant to swap two pixels, but as its pixels are views, the second assignment writes back what the first
    one has just written: pixels are copied. The published data sets were generated so.
    """
    pixels = (smoothed(image / 255, sigma) * 255).astype(np.uint8)
    height, width = image.shape[:2]
    for _ in range(repetitions):
        rows, columns = np.mgrid[height - reach : reach : -1, width - reach : reach : -1]  # in the order of the copies
        shifts = rng.integers(-reach, reach, (*rows.shape, 2))
        pixels = _copied(pixels, rows, columns, rows + shifts[..., 1], columns + shifts[..., 0])
    return smoothed(pixels / 255, sigma)


def _copied(
    pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray, from_rows: np.ndarray, from_columns: np.ndarray
) -> np.ndarray:
    """Returns the pixels after the copies `pixels[rows, columns] = pixels[from_rows, from_columns]`, one after the other.

    A copy reads what an earlier copy has written, if the pixel that it reads was written before. So a pixel's value comes from
    the end of a chain of pixels, which is found for all pixels at once by doubling the length of the chains.
    """
    count = pixels.shape[0] * pixels.shape[1]
    places, sources = (
        np.ravel_multi_index(index, pixels.shape[:2]).ravel() for index in ((rows, columns), (from_rows, from_columns))
    )
    written = np.full(count, places.size)  # when a pixel is written: 0, 1, …
    written[places] = np.arange(places.size)
    origin = np.arange(2 * count)  # pixel p after the copies -> another one, or count + q: pixel q before the copies
    origin[:count] += count
    origin[places] = np.where(written[sources] < written[places], sources, count + sources)
    while not np.array_equal(origin, further := origin[origin]):
        origin = further
    return pixels.reshape(count, -1)[origin[:count] - count].reshape(pixels.shape)


def motion_blur(image: np.ndarray, rng: np.random.Generator, radius: int, sigma: float) -> np.ndarray:
    """Blurs along a line whose angle is drawn from -45° to 45°, as a moving camera."""
    return moved(image, radius, sigma, rng.uniform(-45, 45))


def moved(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Returns an image (H, W) or (H, W, C) uint8, blurred along a line in one direction, as ImageMagick's -motion-blur does.

    Args:
      image: uint8.
      radius: the line has 2 radius + 1 pixels, the first one being the pixel itself.
      sigma: standard deviation of the half Gaussian of their weights, in pixels.
      angle: of the line, in degrees, clockwise from the x axis.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    direction = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    height, width = image.shape[:2]
    padding = 2 * radius
    padded = cv2.copyMakeBorder(image, padding, padding, padding, padding, cv2.BORDER_REPLICATE)
    blurred = np.zeros(image.shape)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down, right = (padding + math.ceil(step * component - 0.5) for component in direction)
        blurred += weight * padded[down : down + height, right : right + width]
    return np.rint(blurred).astype(np.uint8)


def zoom_blur(image: np.ndarray, rng: np.random.Generator, end: float, step: float) -> np.ndarray:
    """Averages the image and enlargements of it, as a camera that moves toward the scene."""
    intensities = (image / 255).astype(np.float32)
    factors = np.arange(1, end, step)
    total = np.zeros_like(intensities)
    for factor in factors:
        total += zoomed(intensities, factor)
    return (intensities + total) / (len(factors) + 1)


def zoomed(values: np.ndarray, factor: float) -> np.ndarray:
    """Returns the center of values (H, W) or (H, W, C), enlarged by `factor` with linear interpolation to the same shape."""
    height, width = values.shape[:2]
    factors = (factor, factor, *[1] * (values.ndim - 2))
    enlarged = ndimage.zoom(_center(values, math.ceil(height / factor), math.ceil(width / factor)), factors, order=1)
    return _center(enlarged, height, width)


def _center(values: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return values[top : top + height, left : left + width]

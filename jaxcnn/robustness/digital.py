"""Digital corruptions: contrast, elastic transform, pixelation, JPEG and saturation. Arguments and results as in `noise.py`."""

import io

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage


def contrast(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Reduces the differences to the per-channel mean."""
    intensities = image / 255
    mean = intensities.mean((0, 1))
    return (intensities - mean) * factor + mean


def elastic_transform(image: np.ndarray, rng: np.random.Generator, factor: float, sigma: float, reach: float) -> np.ndarray:
    """Applies a random affine map, then displaces each pixel by smoothed noise. Linear interpolation, mirrored borders.

    The affine map moves three points around the center by up to `reach` pixels per coordinate.
    """
    height, width = image.shape[:2]
    side = min(height, width) // 3
    points = np.array([width // 2, height // 2]) + side * np.array([[1, 1], [1, -1], [-1, -1]])
    moved_points = points + rng.uniform(-reach, reach, points.shape)
    affine = cv2.getAffineTransform(points.astype(np.float32), moved_points.astype(np.float32))
    intensities = cv2.warpAffine(image.astype(np.float32) / 255, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    if factor == 0:  # severity 1 of CIFAR-C
        return intensities

    def displacement() -> np.ndarray:
        noise = rng.uniform(-1, 1, (height, width))
        return (ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3) * factor).astype(np.float32)

    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    right, down = displacement(), displacement()
    places = np.stack([rows + down, columns + right])
    channels = [ndimage.map_coordinates(channel, places, order=1, mode="reflect") for channel in np.moveaxis(intensities, 2, 0)]
    return np.stack(channels, 2)


def pixelate(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Reduces the resolution: a box filter to `scale` of the size, and back."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Compresses the image as a JPEG file of this quality."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def saturate(image: np.ndarray, rng: np.random.Generator, factor: float, increase: float) -> np.ndarray:
    """Changes the saturation in the HSV color space, at the same hue and value. Gray pixels have the hue of red."""
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + increase, 0, 1)
    return hsv_to_rgb(hsv)

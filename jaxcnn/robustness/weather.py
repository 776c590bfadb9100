"""Weather: snow, frost, fog, brightness and spatter. Arguments and results as in `noise.py`."""

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

from jaxcnn.robustness.blur import moved, smoothed, zoomed

_WATER = np.array([175, 238, 238], np.float32) / 255  # pale turquoise
_MUD = np.array([63, 42, 20], np.float32) / 255


def snow(
    image: np.ndarray,
    rng: np.random.Generator,
    mean: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    weight: float,
) -> np.ndarray:
    """Whitens the image and adds flakes that fall at -135° to -45°: noise, enlarged, thresholded and blurred along the fall."""
    intensities = image.astype(np.float32) / 255
    flakes = zoomed(rng.normal(mean, scale, image.shape[:2]), zoom)
    flakes[flakes < threshold] = 0
    flakes = moved((np.clip(flakes, 0, 1) * 255).astype(np.uint8), radius, sigma, rng.uniform(-135, -45)) / 255
    gray = cv2.cvtColor(intensities, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = weight * intensities + (1 - weight) * np.maximum(intensities, gray * 1.5 + 0.5)
    return whitened + (flakes + np.rot90(flakes, 2))[..., None]


def frost(
    image: np.ndarray,
    rng: np.random.Generator,
    image_weight: float,
    frost_weight: float,
    scale: float,
    *,
    textures: Sequence[np.ndarray],
) -> np.ndarray:
    """Adds a random window of one of the `textures` (h, w, 3) uint8, resized by `scale`, or more if the image is larger."""
    texture = textures[int(rng.integers(len(textures)))]
    height, width = image.shape[:2]
    scale = max(scale, (height + 1) / texture.shape[0], (width + 1) / texture.shape[1])
    if scale != 1:
        texture = cv2.resize(texture, None, fx=scale, fy=scale)
    top, left = rng.integers(texture.shape[0] - height), rng.integers(texture.shape[1] - width)
    window = texture[top : top + height, left : left + width]
    return np.clip(image_weight * image + frost_weight * window, 0, 255).astype(np.uint8)


def fog(image: np.ndarray, rng: np.random.Generator, weight: float, decay: float) -> np.ndarray:
    """Adds a plasma fractal, and scales the sum to the image's largest value."""
    intensities = image / 255
    largest = intensities.max()
    height, width = image.shape[:2]
    fractal = _plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    return (intensities + weight * fractal) * (largest / (largest + weight))


def _plasma(size: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a plasma fractal (size, size) in [0, 1], from the diamond-square algorithm on a torus.

    `size` is a power of two. The noise of the n-th octave is uniform in ± (100 / decay^n)².
    """
    heights = np.zeros((size, size))
    roughness = 100.0

    def disturbed(total_of_four: np.ndarray) -> np.ndarray:
        return total_of_four / 4 + roughness * rng.uniform(-roughness, roughness, total_of_four.shape)

    step = size
    while step > 1:
        half = step // 2
        corners, centers = heights[::step, ::step], heights[half::step, half::step]
        below = np.roll(corners, -1, 0)
        centers[...] = disturbed(corners + below + np.roll(corners + below, -1, 1))
        heights[::step, half::step] = disturbed(centers + np.roll(centers, 1, 0) + corners + np.roll(corners, -1, 1))
        heights[half::step, ::step] = disturbed(centers + np.roll(centers, 1, 1) + corners + below)
        step, roughness = half, roughness / decay
    heights -= heights.min()
    return heights / heights.max()


def brightness(image: np.ndarray, rng: np.random.Generator, increase: float) -> np.ndarray:
    """Increases the value in the HSV color space: the largest of a pixel's channels, at the same hue and saturation."""
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + increase, 0, 1)
    return hsv_to_rgb(hsv)


def spatter(
    image: np.ndarray,
    rng: np.random.Generator,
    mean: float,
    scale: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
) -> np.ndarray:
    """Adds drops of water with dark and light edges, or covers the image with drops of mud."""
    intensities = image.astype(np.float32) / 255
    liquid = smoothed(rng.normal(mean, scale, image.shape[:2]), sigma)
    liquid[liquid < threshold] = 0
    if mud:
        cover = smoothed((liquid > threshold).astype(np.float32), strength)[..., None]
        cover[cover < 0.8] = 0
        return intensities * (1 - cover) + cover * _MUD
    liquid = (liquid * 255).astype(np.uint8)
    drops = liquid * _relief(liquid)
    largest = drops.max()
    return intensities + (drops / largest * np.float32(strength))[..., None] * _WATER if largest else intensities


def _relief(liquid: np.ndarray) -> np.ndarray:
    """Returns the light on the drops of a layer (H, W) uint8: an emboss filter of the distance to their edges, float32."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    return cv2.blur(cv2.filter2D(distance, cv2.CV_8U, emboss), (3, 3)).astype(np.float32)

"""Noise: Gaussian, shot, impulse and speckle noise.

As in all files of corruptions: functions of an image (H, W, 3) uint8, a random generator and the constants of a severity, which
return either an image (H, W, 3) uint8 or intensities (H, W, 3) in [0, 1], which `corrupt` clips and converts.
"""

import numpy as np


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Adds Gaussian noise, independent per value, as in low light."""
    return image / 255 + rng.normal(0, scale, image.shape)


def shot_noise(image: np.ndarray, rng: np.random.Generator, photons: float) -> np.ndarray:
    """Replaces each value with a Poisson variable of the same mean: the count of discrete photons."""
    return rng.poisson(image / 255 * photons) / photons


def impulse_noise(image: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Sets a share of the values to 0 or 1 with equal probability: salt-and-pepper noise, independent per channel."""
    replaced, salt = rng.random(image.shape) <= share, rng.random(image.shape) <= 0.5
    return np.where(replaced, salt, image / 255)


def speckle_noise(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Adds Gaussian noise whose standard deviation is proportional to the intensity."""
    intensities = image / 255
    return intensities + intensities * rng.normal(0, scale, image.shape)

"""The 19 common corruptions at 5 severities.

Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. ICLR 2019,
arXiv:1903.12261. The code follows the scripts that generated the published data sets (see `severities.py`), with these
differences:

- Frost: the original adds a window of one of five photographs of frost, whose licenses are unclear. By default, this package
  adds one of five generated textures, so results for frost differ from published ones. `frost_folder` names a folder with the
  photographs.
- All random numbers are a function of (seed, index, corruption, severity), so an image is corrupted in the same way in any
  batch. The published images are other samples of the same distributions.
- The published images of ImageNet-C were saved as JPEG of quality 85 after their corruption. Here they are not.
- The original is written for 224×224 and 32×32 pixels; here the height and the width are arbitrary.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxcnn.errors import UserError
from jaxcnn.robustness import blur, digital, noise, weather
from jaxcnn.robustness.frost import frost_textures
from jaxcnn.robustness.severities import constants, form_of

FUNCTIONS: Mapping[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (
        noise.gaussian_noise,
        noise.shot_noise,
        noise.impulse_noise,
        blur.defocus_blur,
        blur.glass_blur,
        blur.motion_blur,
        blur.zoom_blur,
        weather.snow,
        weather.frost,
        weather.fog,
        weather.brightness,
        digital.contrast,
        digital.elastic_transform,
        digital.pixelate,
        digital.jpeg_compression,
        noise.speckle_noise,
        blur.gaussian_blur,
        weather.spatter,
        digital.saturate,
    )
}
"""Corruption -> its function (image, random generator, *constants) -> image; see `noise.py`."""

NAMES: tuple[str, ...] = tuple(FUNCTIONS)
"""The 19 corruptions, in the paper's order."""

COUNTED: tuple[str, ...] = NAMES[:15]
"""The 15 corruptions whose mean is the mCE. The other 4 are for validation: hyperparameters may be chosen on them."""

SMALLEST_SIDE = 16
"""The smallest height and width of an image that can be corrupted; below, some neighborhoods exceed the image."""


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int,
    seed: int,
    index: int,
    form: str = "auto",
    frost_folder: str | Path | None = None,
) -> np.ndarray:
    """Returns a corrupted image, a function of the arguments alone.

    Args:
      image: (H, W, 3) uint8, RGB, in the size in which the network receives it.
      name: one of `NAMES`.
      severity: 1 to 5.
      seed: of the random numbers, 0 or more.
      index: of the image in its data set; images with different indices receive independent random numbers.
      form: "imagenet_c" or "cifar_c", whose constants are for images of about 224 and 32 pixels; "auto" is the result of
        `form_of` for the image's size.
      frost_folder: folder with the original's photographs of frost; None adds generated textures.

    Returns:
      (H, W, 3) uint8.

    Raises:
      UserError: an argument is not as described, or the photographs cannot be read.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"corruptions are defined for RGB images (H, W, 3) uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(f"corruptions need images of at least {SMALLEST_SIDE}×{SMALLEST_SIDE} pixels, got {width}×{height}")
    if seed < 0 or index < 0:
        raise UserError(f"the seed and the index of a corruption are 0 or more, got {seed} and {index}")
    arguments = constants(name, form_of(height, width) if form == "auto" else form, severity)
    options = {"textures": frost_textures(frost_folder)} if name == "frost" else {}
    rng = _generator(seed, index, NAMES.index(name), severity)
    corrupted = FUNCTIONS[name](image, rng, *arguments, **options)
    return corrupted if corrupted.dtype == np.uint8 else (np.clip(corrupted, 0, 1) * 255).astype(np.uint8)


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)

"""The constants of each corruption at severities 1 to 5, in the two published forms.

Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations. ICLR 2019,
arXiv:1903.12261. The constants are those of the scripts that generated the published data sets: make_imagenet_c.py (ImageNet-C)
and make_cifar_c.py (CIFAR-10-C and CIFAR-100-C), folder ImageNet-C/create_c of the repository hendrycks/robustness.

Constants are in pixels of the images that they were published for. ImageNet-C's destroy an image of 32 pixels: its defocus blur
of severity 5 has a radius of 10 pixels, CIFAR-C's of 1.5.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxcnn.errors import UserError, did_you_mean

FORMS: Mapping[str, int] = {"imagenet_c": 224, "cifar_c": 32}
"""The published forms -> the side, in pixels, of the images that each was published for."""


def form_of(height: int, width: int) -> str:
    """Returns the form for images of this size: the one whose images have the more similar side, as a ratio.

    The shorter side decides: "cifar_c" up to 84 pixels, "imagenet_c" from 85.
    """
    return min(FORMS, key=lambda form: abs(np.log(min(height, width) / FORMS[form])))


def check_form(form: str) -> None:
    """Raises UserError if there is no such form of the corruptions."""
    if form not in FORMS:
        raise UserError(f'no form "{form}" of the corruptions{did_you_mean(form, FORMS)}; available: {", ".join(FORMS)}')


def constants(name: str, form: str, severity: int) -> tuple[Any, ...]:
    """Returns the constants of a corruption in the order of its function's arguments.

    Raises:
      UserError: there is no such corruption, form or severity.
    """
    if name not in SEVERITIES:
        raise UserError(f'no corruption "{name}"{did_you_mean(name, SEVERITIES)}; available: {", ".join(SEVERITIES)}')
    check_form(form)
    if severity not in (1, 2, 3, 4, 5):
        raise UserError(f"the severity of a corruption is 1, 2, 3, 4 or 5, got {severity}")
    chosen = SEVERITIES[name][form][int(severity) - 1]
    return chosen if isinstance(chosen, tuple) else (chosen,)


SEVERITIES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    # standard deviation, of intensities in [0, 1]
    "gaussian_noise": {"imagenet_c": (0.08, 0.12, 0.18, 0.26, 0.38), "cifar_c": (0.04, 0.06, 0.08, 0.09, 0.10)},
    # number of photons at full intensity
    "shot_noise": {"imagenet_c": (60, 25, 12, 5, 3), "cifar_c": (500, 250, 100, 75, 50)},
    # share of values that become 0 or 1
    "impulse_noise": {"imagenet_c": (0.03, 0.06, 0.09, 0.17, 0.27), "cifar_c": (0.01, 0.02, 0.03, 0.05, 0.07)},
    # radius of the disk, standard deviation of the blur that smooths the disk's edge
    "defocus_blur": {
        "imagenet_c": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "cifar_c": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    },
    # standard deviation of the blur, largest displacement, repetitions
    "glass_blur": {
        "imagenet_c": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "cifar_c": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    },
    # radius, standard deviation along the motion
    "motion_blur": {
        "imagenet_c": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "cifar_c": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    },
    # upper end (exclusive) and step of the zoom factors, which begin at 1
    "zoom_blur": {
        "imagenet_c": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "cifar_c": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    },
    # mean and standard deviation of the noise, zoom, threshold, radius and standard deviation of the fall, weight of the image
    "snow": {
        "imagenet_c": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "cifar_c": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    },
    # weights of the image and of the frost, scale of the frost
    "frost": {
        "imagenet_c": ((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
        "cifar_c": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    },
    # weight of the fog, decay of its roughness per octave
    "fog": {
        "imagenet_c": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "cifar_c": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    },
    # increase of the value (HSV)
    "brightness": {"imagenet_c": (0.1, 0.2, 0.3, 0.4, 0.5), "cifar_c": (0.05, 0.1, 0.15, 0.2, 0.3)},
    # factor of the difference to the mean
    "contrast": {"imagenet_c": (0.4, 0.3, 0.2, 0.1, 0.05), "cifar_c": (0.75, 0.5, 0.4, 0.3, 0.15)},
    # factor of the displacement, standard deviation of the blur of the displacement, range of the affine map
    "elastic_transform": {
        "imagenet_c": (
            (244 * 2, 244 * 0.7, 244 * 0.1),
            (244 * 2, 244 * 0.08, 244 * 0.2),
            (244 * 0.05, 244 * 0.01, 244 * 0.02),
            (244 * 0.07, 244 * 0.01, 244 * 0.02),
            (244 * 0.12, 244 * 0.01, 244 * 0.02),
        ),
        "cifar_c": (
            (0, 0, 32 * 0.08),
            (32 * 0.05, 32 * 0.2, 32 * 0.07),
            (32 * 0.08, 32 * 0.06, 32 * 0.06),
            (32 * 0.1, 32 * 0.04, 32 * 0.05),
            (32 * 0.1, 32 * 0.03, 32 * 0.03),
        ),
    },
    # scale
    "pixelate": {"imagenet_c": (0.6, 0.5, 0.4, 0.3, 0.25), "cifar_c": (0.95, 0.9, 0.85, 0.75, 0.65)},
    # quality
    "jpeg_compression": {"imagenet_c": (25, 18, 15, 10, 7), "cifar_c": (80, 65, 58, 50, 40)},
    # standard deviation, relative to the intensity
    "speckle_noise": {"imagenet_c": (0.15, 0.2, 0.35, 0.45, 0.6), "cifar_c": (0.06, 0.1, 0.12, 0.16, 0.2)},
    # standard deviation
    "gaussian_blur": {"imagenet_c": (1, 2, 3, 4, 6), "cifar_c": (0.4, 0.6, 0.7, 0.8, 1)},
    # mean and standard deviation of the noise, standard deviation of its blur, threshold, strength, mud instead of water
    "spatter": {
        "imagenet_c": (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
        "cifar_c": (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    },
    # factor and increase of the saturation (HSV)
    "saturate": {
        "imagenet_c": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        "cifar_c": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
}
"""Corruption -> form -> its constants at severities 1 to 5: the arguments of its function in `jaxcnn.robustness`."""

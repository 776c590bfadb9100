"""The mean corruption error (mCE), as in section 4.1 of Hendrycks and Dietterich, arXiv:1903.12261."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcnn.errors import UserError
from jaxcnn.robustness.corruptions import COUNTED
from jaxcnn.robustness.severities import check_form

ALEXNET_ERRORS: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's top-1 error on ImageNet-C per corruption, mean over the 5 severities, as published.

Copied from imagenet.py in the repository google-research/augmix, which took them from hendrycks/robustness."""


def mean_corruption_error(errors: Mapping[str, Sequence[float]], form: str) -> float:
    """Returns the mCE of a network: the mean over the 15 corruptions in `COUNTED`, 1.0 being 100 %.

    Args:
      errors: corruption -> top-1 errors in [0, 1] at severities 1 to 5. Corruptions that are not counted are ignored.
      form: with "imagenet_c", each corruption's error is divided by AlexNet's before they are averaged, so an mCE can exceed 1.
        With "cifar_c" it is not, as published for CIFAR-10-C: the mCE is the mean error.

    Raises:
      UserError: there is no such form, or a counted corruption lacks one of its 5 errors.
    """
    check_form(form)
    if incomplete := [name for name in COUNTED if len(errors.get(name, ())) != 5]:
        raise UserError(f"the mCE needs the errors at 5 severities of {', '.join(incomplete)}")
    return float(np.mean([np.mean(errors[name]) / (ALEXNET_ERRORS[name] if form == "imagenet_c" else 1) for name in COUNTED]))

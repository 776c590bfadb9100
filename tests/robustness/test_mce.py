"""The mean corruption error."""

import numpy as np
import pytest

from jaxcnn.errors import UserError
from jaxcnn.robustness import ALEXNET_ERRORS, COUNTED, NAMES, mean_corruption_error

ERRORS = {name: [0.1 * severity + 0.01 * number for severity in range(1, 6)] for number, name in enumerate(NAMES)}


def test_alexnet_has_an_mce_of_1_on_imagenet_c():
    assert mean_corruption_error({name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}, "imagenet_c") == pytest.approx(
        1
    )


def test_the_mce_of_imagenet_c_is_normalized_per_corruption_and_that_of_cifar_c_is_not():
    normalized = np.mean([sum(ERRORS[name]) / (5 * ALEXNET_ERRORS[name]) for name in COUNTED])
    assert mean_corruption_error(ERRORS, "imagenet_c") == pytest.approx(normalized)
    assert mean_corruption_error(ERRORS, "cifar_c") == pytest.approx(0.3 + 0.07)


def test_an_mce_of_some_corruptions_is_refused():
    with pytest.raises(UserError, match="the mCE needs the errors at 5 severities of frost, fog"):
        mean_corruption_error({**ERRORS, "fog": [0.1] * 4, "frost": []}, "cifar_c")
    with pytest.raises(UserError, match='no form "auto"'):
        mean_corruption_error(ERRORS, "auto")

"""NASNet-A against Keras and timm."""

import pytest
from common.promises import count, initialized_layers, parameters

from jaxcnn.errors import UserError


@pytest.mark.slow
def test_parameters_are_those_of_timm_and_the_paper():
    assert count(parameters("timm/nasnetalarge")[0]) == 88_753_150
    assert round(count(parameters("nasnet_cifar", 32)[0]) / 1e6, 1) == 3.3  # table 1, 6 @ 768
    assert count(parameters("nasnet_cifar", 32)[0]) == 3_328_234


@pytest.mark.slow
def test_initialization_is_that_of_the_library():
    projection, separable, head = initialized_layers(
        "keras/NASNetMobile", ["cell12/conv", "cell12/block1_left/sepconv1_pointwise", "head"], 32
    )
    kernel = projection["kernel"]
    assert kernel.std() == pytest.approx((2 / 1056) ** 0.5, rel=0.01)
    assert abs(kernel).max() < 2.3 * kernel.std()  # truncated
    assert separable["kernel"].std() == pytest.approx(176**-0.5, rel=0.02)
    assert (head["bias"] == 0).all()
    (projection,) = initialized_layers("timm/nasnetalarge", ["cell13/conv"], 32)
    inputs = projection["kernel"].shape[2]
    assert 0.99 * inputs**-0.5 < abs(projection["kernel"]).max() <= inputs**-0.5


@pytest.mark.slow
def test_without_classes_there_is_no_head():
    params, stats = parameters("keras/NASNetMobile", 32, channels=1, num_classes=0)
    assert (params, stats) == parameters("keras/NASNetMobile", 32, channels=1, num_classes=0, remat=True)
    assert "head" not in params
    assert params["stem_conv"]["kernel"].shape == (3, 3, 1, 32)


def test_too_small_images_are_refused():
    with pytest.raises(UserError, match="31×31 is too small for keras/NASNetMobile: at least 32×32"):
        parameters("keras/NASNetMobile", 31)

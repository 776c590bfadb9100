"""RegNet against torchvision and timm."""

import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.models.regnet import TIMM_REGNET, TORCHVISION_REGNET, RegNet, stages


def test_smallest_regnetx_has_timms_count():
    assert count(parameters("timm/regnetx_002")[0]) == 2_684_792


@pytest.mark.parametrize(
    ("arguments", "depths", "widths", "group"),
    [  # tables 1 and 2 of the supplement: RegNetX-200MF, RegNetX-3.2GF, RegNetY-1.6GF
        ((13, 24, 36.44, 2.49, 8), (1, 1, 4, 7), (24, 56, 152, 368), 8),
        ((25, 88, 26.31, 2.25, 48), (2, 6, 15, 2), (96, 192, 432, 1008), 48),
        ((27, 48, 20.71, 2.65, 24), (2, 6, 17, 2), (48, 120, 336, 888), 24),
    ],
)
def test_quantized_widths_are_the_papers_stages(arguments, depths, widths, group):
    assert stages(*arguments) == tuple((depth, width, group) for depth, width in zip(depths, widths, strict=True))


def test_group_width_is_at_most_the_width_of_its_stage():
    assert stages(4, 24, 36.0, 2.5, 32)[0] == (1, 24, 24)


SMALL = {"design": (3, 32, 32.0, 2.0, 8), "se_ratio": 0.25, "num_classes": 40}


def init(model):
    return compiled(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False), random_key(0))["params"]


def test_initialization_is_torchvisions():
    params = init(RegNet(**SMALL, flavor=TORCHVISION_REGNET))
    block = params["stage3_block1"]
    assert block["conv2"]["kernel"].std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert block["conv3"]["kernel"].std() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert (block["norm3"]["scale"] == 1).all()
    assert params["head"]["kernel"].std() == pytest.approx(0.01, rel=0.02)
    assert (params["head"]["bias"] == 0).all()


def test_initialization_is_timms():
    block = init(RegNet(**SMALL, flavor=TIMM_REGNET, zero_init_last=True))["stage3_block1"]
    assert block["conv2"]["kernel"].std() == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.02)  # for groups of 8 channels
    assert (block["norm3"]["scale"] == 0).all()
    assert (block["norm2"]["scale"] == 1).all()


def test_without_classes_it_returns_features_for_any_number_of_channels():
    params, _ = parameters("regnet_x_400mf", 33, channels=5, num_classes=0)
    assert "head" not in params
    assert params["stem_conv"]["kernel"].shape == (3, 3, 5, 32)


def test_images_without_channels_are_refused():
    with pytest.raises(UserError, match="regnet_x_400mf: expected images of shape"):
        create_model("regnet_x_400mf").init({}, np.zeros((2, 32, 32)), train=False)

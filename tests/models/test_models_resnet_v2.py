"""Pre-activation ResNets against Keras and timm, and the paper's counts."""

import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.layers import GroupNorm, random_key
from jaxcnn.models.registry import find
from jaxcnn.models.resnet_v2 import zero_padded_max_pool


@pytest.mark.parametrize(
    ("name", "depths", "millions"), [("resnet50_v2", (3, 4, 6, 3), "25.5"), ("resnet200_v2", (3, 24, 36, 3), "64.7")]
)
def test_parameter_count_by_hand(name, depths, millions):
    expected = 49 * 3 * 64 + 2 * 64  # the stem and its norm, which is also the first norm of the first block
    inputs = 64
    for depth, filters in zip(depths, (64, 128, 256, 512), strict=True):
        expected += inputs * 4 * filters  # the projection shortcut, without a norm
        for _ in range(depth):
            expected += 2 * inputs + inputs * filters + 2 * filters + 9 * filters**2 + 2 * filters + 4 * filters**2
            inputs = 4 * filters
    expected += -2 * 64 + 2 * 2048 + 2048 * 1000 + 1000
    assert count(parameters(name)[0]) == expected
    assert f"{expected / 1e6:.1f}" == millions


def test_parameter_count_without_head_is_that_of_kerass_documentation():
    params, stats = parameters("keras/ResNet152V2", num_classes=0)
    assert count(params) + count(stats) == 58_331_648


def test_initialization_is_that_of_the_library():
    """For networks with two short stages."""

    def params(name):
        module, fields, *_ = find(name)
        model = module(**{**fields, "depths": (1, 1), "num_classes": 100})
        return compiled(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)["params"], random_key(0))

    kernel = params("keras/ResNet50V2")["stage2_block1"]["shortcut_conv"]["kernel"]
    assert 0.99 * (6 / (256 + 512)) ** 0.5 < np.abs(kernel).max() <= (6 / (256 + 512)) ** 0.5
    timm = params("timm/resnetv2_50")
    assert timm["head"]["kernel"].std() == pytest.approx(0.01, rel=0.02)
    assert timm["stage2_block1"]["conv2"]["kernel"].std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)


def test_group_norm_normalizes_each_group_of_each_image():
    x = np.random.default_rng(0).normal(3, 2, (2, 5, 4, 12)).astype(np.float32)
    y = GroupNorm(groups=3).apply({"params": {"scale": jnp.ones(12), "bias": jnp.zeros(12)}}, x)
    groups = np.asarray(y).reshape(2, 20, 3, 4)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.std((1, 3)), 1, atol=1e-4)


def test_zero_padding_is_included_in_the_maximum():
    x = -jnp.ones((1, 4, 4, 1))
    np.testing.assert_array_equal(zero_padded_max_pool(x)[0, :, :, 0], [[0, 0], [0, -1]])

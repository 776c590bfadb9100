"""ShuffleNet V2 against torchvision, ShuffleNet against its paper."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.promises import count, initialized, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import channel_shuffle
from jaxcnn.models import create_model


def test_shuffle_interleaves_the_channels_of_groups():
    x = jnp.arange(6.0).reshape(1, 1, 1, 6)
    np.testing.assert_array_equal(channel_shuffle(x, 3).ravel(), [0, 2, 4, 1, 3, 5])


def multiply_adds(name):
    """Counts multiply-adds of all convolutions and the head for images of 224×224."""
    total = 0

    def note(next_method, arguments, options, context):
        nonlocal total
        y = next_method(*arguments, **options)
        if isinstance(context.module, nn.Conv | nn.Dense):
            total += y.size * np.prod(context.module.variables["params"]["kernel"].shape[:-1])
        return y

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: create_model(name).init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)), train=False))
    return total / 1e6


@pytest.mark.parametrize(
    ("name", "parameters_", "millions"),
    [  # complexity in millions from table 2 of the paper, which has no parameter counts
        ("shufflenet_v1_g1", 1_531_936, 143),
        ("shufflenet_v1_g3", 1_865_728, 137),
        ("shufflenet_v1_g8", 2_434_768, 137),
        ("shufflenet_v1_g3_x0_5", 718_324, 38),
        ("shufflenet_v1_g3_x0_25", 305_902, 11),  # the paper states 13, which would be right for a stem of 12 channels
        ("shufflenet_v1_g3_x2_0", 5_450_776, 524),
    ],
)
def test_shufflenet_has_the_papers_complexity(name, parameters_, millions):
    assert count(parameters(name)[0]) == parameters_
    assert multiply_adds(name) == pytest.approx(millions, rel=0.02)


def test_parameter_count_of_shufflenet_is_that_of_its_layers():
    """1×1 convolutions have 3 groups, except for the first one."""
    total = 24 * (27 + 2)
    for stage, (width, depth) in enumerate(((240, 4), (480, 8), (960, 4))):
        before = (24, 240, 480)[stage]
        narrow = width // 4
        first = before * narrow // (1 if stage == 0 else 3) + (narrow // 3) * (width - before) + 2 * (width - before)
        later_block = width * narrow // 3 + narrow // 3 * width + 2 * width
        total += first + (depth - 1) * later_block + depth * (9 * narrow + 4 * narrow)
    assert count(parameters("shufflenet_v1_g3")[0]) == total + 961 * 1000 == 1_865_728


def test_initialization_of_v2_is_torchvisions():
    params = initialized("shufflenet_v2_x0_5")
    block = params["stage4_block2"]
    for layer, fan_in in (("conv1", 96), ("depthwise_conv", 9)):
        kernel = np.abs(block[layer]["kernel"])
        assert 0.99 * fan_in**-0.5 < kernel.max() <= fan_in**-0.5
        assert block[layer]["kernel"].std() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)


def test_initialization_of_v1_is_he():
    kernel = initialized("shufflenet_v1_g3_x0_5")["stage4_block2"]["conv2"]["kernel"]
    assert kernel.std() == pytest.approx((2 / 480) ** 0.5, rel=0.03)


@pytest.mark.parametrize(("name", "width"), [("shufflenet_v1_g3_x0_5", 12), ("shufflenet_v2_x1_0", 24)])
def test_without_classes_it_returns_features_for_any_number_of_channels(name, width):
    params, _ = parameters(name, 33, channels=5, num_classes=0)
    assert "head" not in params
    assert params["stem_conv"]["kernel"].shape == (3, 3, 5, width)


@pytest.mark.parametrize("name", ["shufflenet_v1_g3", "shufflenet_v2_x1_0"])
def test_images_without_channels_are_refused(name):
    with pytest.raises(UserError, match=f"{name}: expected images of shape"):
        create_model(name).init({}, np.zeros((2, 32, 32)), train=False)

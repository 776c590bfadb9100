"""AlexNet against torchvision and the paper's counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, initialized, parameters

from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.models.alexnet import local_response_norm


@pytest.mark.slow
def test_every_parameter_of_2012_has_a_gradient():
    model = create_model("alexnet_2012", num_classes=2, dtype="bfloat16")
    images = jax.random.normal(jax.random.key(1), (2, 63, 63, 3))
    params = initialized("alexnet_2012", num_classes=2)

    def loss(params):
        logits = model.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(2)})
        return -jax.nn.log_softmax(logits)[:, 1].mean()

    for path, gradient in jax.tree_util.tree_leaves_with_path(compiled(jax.grad(loss), params)):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_alexnet_2012_has_60_million_parameters():
    """The paper's "60 million" are 60,965,224: grouped convolutions are connected to half of the maps."""
    layers = {
        "stem_conv": 11 * 11 * 3 * 96 + 96,
        "conv2": 5 * 5 * 48 * 256 + 256,
        "conv3": 3 * 3 * 256 * 384 + 384,
        "conv4": 3 * 3 * 192 * 384 + 384,
        "conv5": 3 * 3 * 192 * 256 + 256,
        "fc6": 6 * 6 * 256 * 4096 + 4096,
        "fc7": 4096 * 4096 + 4096,
        "head": 4096 * 1000 + 1000,
    }
    params, _ = parameters("alexnet_2012", 224)
    assert {name: count(layer) for name, layer in params.items()} == layers
    assert count(params) == 60_965_224


@pytest.mark.parametrize("size", [224, 227])
def test_map_sizes_are_those_of_the_paper(size):
    """Figure 2: 55×55, 27×27 and 13×13 positions, for the paper's 224×224 and for the 227×227 of other implementations."""
    model = create_model("alexnet_2012", num_classes=0)

    def maps(x):
        return model.init_with_output(jax.random.key(0), x, train=False, mutable=["params", "intermediates"])

    pooled, sown = jax.eval_shape(maps, jnp.zeros((1, size, size, 3)))
    assert pooled.shape == (1, 256)
    shapes = [maps.shape[1:] for (maps,) in sown["intermediates"].values()]
    first = (55, 55, 96) if size == 224 else (56, 56, 96)
    assert shapes == [first, (27, 27, 256), (13, 13, 256)]


def test_local_response_normalization_is_section_3_3():
    x = np.random.default_rng(0).normal(0, 100, (2, 3, 2, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for i in range(7):
        around = x[..., max(0, i - 2) : min(7, i + 3)]
        expected[..., i] = x[..., i] / (2 + 1e-4 * (around.astype(np.float64) ** 2).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x)), expected, rtol=1e-5)


def test_columns_of_2012_are_connected_only_in_the_third_convolution():
    params, _ = parameters("alexnet_2012")
    assert [params[f"conv{i}"]["kernel"].shape[2] for i in (2, 3, 4, 5)] == [48, 256, 192, 192]


@pytest.mark.slow
def test_2012_is_initialized_as_in_section_5():
    params = initialized("alexnet_2012")
    for layer in params.values():
        assert layer["kernel"].std() == pytest.approx(0.01, rel=0.03)
    biases = {name: set(np.unique(layer["bias"])) for name, layer in params.items()}
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    assert biases == {name: {1.0 if name in ones else 0.0} for name in params}


def test_initialization_is_pytorchs_default():
    params = initialized("alexnet")
    for name, fan_in in (("stem_conv", 363), ("conv2", 1600), ("conv5", 2304), ("fc6", 9216), ("head", 4096)):
        for leaf in params[name].values():
            assert 0.9 * fan_in**-0.5 < np.abs(leaf).max() <= fan_in**-0.5
        assert params[name]["kernel"].std() == pytest.approx((3 * fan_in) ** -0.5, rel=0.02)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012"])
def test_features_input_channels_and_minimum_size(name):
    params, _ = parameters(name, 63, channels=1, num_classes=0)
    assert params["stem_conv"]["kernel"].shape[:3] == (11, 11, 1)
    assert not {"fc6", "fc7", "head"} & set(params)
    with pytest.raises(UserError, match=f"too small for {name}: at least 63×63"):
        parameters(name, 62)

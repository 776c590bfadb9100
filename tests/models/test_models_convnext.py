"""ConvNeXt against torchvision and Keras, ConvNeXt V2 against timm."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import GOLDEN, count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps, list_models
from jaxcnn.models.convnext import PAPER, ConvNeXt, KerasConvNeXt
from jaxcnn.models.network import KERAS

COUNTS = json.loads((GOLDEN / "param_counts.json").read_text())


@pytest.mark.parametrize("name", list_models("timm/convnextv2_*"))
def test_counts_are_timms(name):
    assert count(parameters(name, 32)[0]) == COUNTS["timm"][name.removeprefix("timm/")]["params"]


SMALL = {"depths": (1, 1, 1, 1), "widths": (32, 32, 64, 64), "num_classes": 40}


def init(model):
    images = jnp.zeros((1, 32, 32, 3))
    return compiled(lambda key: model.init(key, images, train=False), random_key(0))


def test_initialization_is_torchvisions():
    params = init(ConvNeXt(**SMALL, flavor=PAPER, response_norm=False))["params"]
    block = params["stage4_block1"]
    for layer in (block["conv7x7"], block["expand"], block["reduce"], params["stage3_conv"], params["head"]):
        assert layer["kernel"].std() == pytest.approx(0.02, rel=0.05)
        assert (layer["bias"] == 0).all()
    assert np.abs(block["expand"]["kernel"]).max() > 3 * 0.02  # not truncated
    assert (block["layer_scale"] == np.float32(1e-6)).all()


def test_v2_is_initialized_without_response_norm():
    block = init(ConvNeXt(**SMALL, flavor=PAPER, response_norm=True))["params"]["stage1_block1"]
    assert (block["response_norm"]["scale"] == 0).all()
    assert (block["response_norm"]["bias"] == 0).all()
    assert "layer_scale" not in block


def test_keras_flavor_is_initialized_by_glorot():
    kernel = init(KerasConvNeXt(**SMALL, flavor=KERAS, response_norm=False))["params"]["stage4_block1"]["expand"]["kernel"]
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_preprocessing_of_keras_flavor_can_be_disabled():
    pixels = 255 * jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
    preprocessing, plain = (KerasConvNeXt(**SMALL, response_norm=False, include_preprocessing=on) for on in (True, False))
    variables = init(preprocessing)
    standardized = (np.asarray(pixels) / 255 - np.float32((0.485, 0.456, 0.406))) / np.float32((0.229, 0.224, 0.225))
    np.testing.assert_allclose(
        compiled(lambda v, x: preprocessing.apply(v, x, train=False), variables, pixels),
        compiled(lambda v, x: plain.apply(v, x, train=False), variables, jnp.asarray(standardized)),
        atol=1e-5,
    )


@pytest.mark.parametrize(("name", "blocks"), [("convnext_tiny", 18), ("regnet_x_400mf", 22)])
def test_stochastic_depth_grows_from_0_to_the_last_block(name, blocks):
    module = create_model(name, stochastic_depth_prob=0.02 * (blocks - 1))
    images = jnp.zeros((1, 32, 32, 3))
    rates = []

    def note(next_method, arguments, options, context):
        if type(context.module).__name__ == "StochasticDepth":
            rates.append(context.module.rate)
        return next_method(*arguments, **options)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda: module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, images, train=True))
    np.testing.assert_allclose(rates, np.arange(blocks) * 0.02)


def test_output_stride_dilates_the_last_stage():
    """Every second position has the value of the strided network."""
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    plain, dilated = (ConvNeXt(**SMALL, flavor=PAPER, response_norm=False, output_stride=stride) for stride in (32, 16))
    variables = jax.tree_util.tree_map_with_path(  # scales that make branches significant
        lambda path, leaf: jnp.ones_like(leaf) if path[-1].key == "layer_scale" else leaf, init(plain)
    )

    def last_maps(model):
        return compiled(lambda v, x: feature_maps(model, v, x)["stage4"], variables, images)

    np.testing.assert_allclose(last_maps(dilated)[:, ::2, ::2], last_maps(plain), atol=1e-5)


@pytest.mark.slow
def test_rematerialized_blocks_have_the_same_gradient():
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    plain, remat = (ConvNeXt(**SMALL, response_norm=True, remat=given) for given in (False, True))
    variables = init(plain)

    def gradient(model):
        return compiled(jax.grad(lambda v: model.apply(v, images, train=True)[:, 0].sum()), variables)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient(plain), gradient(remat))


def test_without_classes_features_are_normalized_for_any_number_of_channels():
    params, _ = parameters("convnext_tiny", 33, channels=5, num_classes=0)
    assert "head" not in params
    assert params["stem_conv"]["kernel"].shape == (4, 4, 5, 96)


def test_too_small_images_are_refused_by_name():
    with pytest.raises(UserError, match="31×31 is too small for timm/convnextv2_atto: at least 32×32"):
        parameters("timm/convnextv2_atto", 31)

"""The first convolution of weights is adapted to images with another number of channels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import reference_weights
from common.small_runs import small_config

from jaxcnn import create_model
from jaxcnn.config import validate
from jaxcnn.errors import UserError
from jaxcnn.train.experiment import prepare
from jaxcnn.weights import adapt_stem, convert

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def state():
    """Random weights of ResNet-20 for 3 channels, with variances that are above 0."""
    return {name: abs(value) if "var" in name else value for name, value in reference_weights.resnet20().items()}


@pytest.fixture(scope="module")
def variables(state):
    return convert("resnet20", state)


def logits(variables, images):
    return jax.jit(lambda v, x: create_model("resnet20").apply(v, x, train=False))(variables, images)


def test_adapted_network_gives_for_gray_the_logits_of_the_original_for_repeated_gray(variables):
    gray = RNG.normal(size=(4, 16, 16, 1)).astype(np.float32)
    expected = np.asarray(logits(variables, np.repeat(gray, 3, axis=3)))
    found = np.asarray(logits(adapt_stem(variables, 1), gray))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert variables["params"]["stem_conv"]["kernel"].shape == (3, 3, 3, 16), "the original is not modified"


def test_more_channels_repeat_the_kernel_in_turn_and_preserve_the_magnitude_of_its_response(variables):
    kernel = variables["params"]["stem_conv"]["kernel"]
    five = adapt_stem(variables, 5)["params"]["stem_conv"]["kernel"]
    assert (five.shape, five.dtype) == ((3, 3, 5, 16), np.float32)
    for channel, source in enumerate((0, 1, 2, 0, 1)):
        np.testing.assert_allclose(five[:, :, channel], kernel[:, :, source] * 3 / 5, rtol=1e-6)
    six = adapt_stem(variables, 6)  # the same channels twice give the same response
    color = RNG.normal(size=(2, 16, 16, 3)).astype(np.float32)
    expected = np.asarray(logits(variables, color))
    found = logits(six, jnp.concatenate([color, color], axis=3))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def pretrained(path, **changes):
    config = small_config(**{"model.name": "resnet20", "model.pretrained": str(path), "data.augment": (), **changes})
    experiment = prepare(validate(config))
    return experiment.task.pretrained(experiment.setup, lambda line: None)["params"]["stem_conv"]["kernel"]


@pytest.mark.slow
def test_config_decides_whether_images_or_weights_are_adapted_and_the_error_names_both_settings(state, variables, tmp_path):
    np.savez(tmp_path / "rgb.npz", **state)
    kernel = variables["params"]["stem_conv"]["kernel"]
    message = f"{tmp_path}/rgb.npz is for images of 3 channels, but these have 1; --config.data.channels=3 changes the images, "
    with pytest.raises(UserError, match=re.escape(message + "--config.model.adapt_stem=True adapts its first convolution")):
        pretrained(tmp_path / "rgb.npz")  # digits are gray
    np.testing.assert_array_equal(pretrained(tmp_path / "rgb.npz", **{"data.channels": 3}), kernel)
    summed = pretrained(tmp_path / "rgb.npz", **{"model.adapt_stem": True})
    np.testing.assert_array_equal(summed, kernel.sum(axis=2, keepdims=True))
    both = {"data.channels": 3, "model.adapt_stem": True}  # the channels already match
    np.testing.assert_array_equal(pretrained(tmp_path / "rgb.npz", **both), kernel)


def test_only_the_first_convolution_can_be_adapted_to_images_of_five_channels(state, tmp_path):
    np.savez(tmp_path / "rgb.npz", **state)
    images, labels = RNG.integers(0, 256, (40, 16, 16, 5), np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "five.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    data = {
        "data.name": "arrays",
        "data.root": str(tmp_path / "five.npz"),
        "data.validation": 0.0,
        "batch_size": 8,
        "total": "9steps",
    }
    with pytest.raises(UserError, match=r"3 channels, but these have 5; --config.model.adapt_stem=True adapts its first conv"):
        pretrained(tmp_path / "rgb.npz", **data)
    assert pretrained(tmp_path / "rgb.npz", **data, **{"model.adapt_stem": True}).shape == (3, 3, 5, 16)

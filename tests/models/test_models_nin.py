"""Network in Network, against manual counts and formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, initialized, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps


def test_parameter_count_is_that_of_the_layers():
    """The paper has no count; papers that compare with it state 0.97 M."""
    filters = ((25, 3, 192), (1, 192, 160), (1, 160, 96), (25, 96, 192), (1, 192, 192), (1, 192, 192), (9, 192, 192))
    filters += ((1, 192, 192), (1, 192, 10))
    params, _ = parameters("nin", 32)
    assert sorted(count(layer) for layer in params.values()) == sorted(area * a * b + b for area, a, b in filters)
    assert count(params) == 966_986


def test_logits_are_the_means_of_a_rectified_map_for_each_class():
    model = create_model("nin")
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    maps = feature_maps(model, variables, images)
    assert [x.shape[1:] for x in maps.values()] == [(32, 32, 96), (16, 16, 192), (8, 8, 192)]
    head = variables["params"]["head"]
    class_maps = np.asarray(maps["stage3"]) @ np.asarray(head["kernel"])[0, 0] + np.asarray(head["bias"])
    logits = np.maximum(class_maps, 0).mean((1, 2))
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-5)


def test_initialization_is_he_fan_in():
    params = initialized("nin", 32)
    for name, fan_in in (("stem_conv", 75), ("stage2_conv1", 2400), ("stage3_conv1", 1728), ("stage3_conv2", 192)):
        assert params[name]["kernel"].std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
    assert all((layer["bias"] == 0).all() for layer in params.values())


def test_features_input_channels_and_minimum_size():
    params, _ = parameters("nin", 4, channels=1, num_classes=0)
    assert params["stem_conv"]["kernel"].shape == (5, 5, 1, 192)
    assert "head" not in params
    model = create_model("nin", num_classes=0)
    pooled = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False)[0], jnp.zeros((2, 9, 4, 1)))
    assert (pooled.shape, pooled.dtype) == ((2, 192), jnp.float32)
    with pytest.raises(UserError, match="too small for nin: at least 4×4"):
        parameters("nin", 3)

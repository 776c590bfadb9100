"""Properties that every model must have, tested on the smallest of each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.kinds import ONE_OF_EACH

from jaxcnn.layers import random_key
from jaxcnn.models import create_model

SMALL = {"lenet5": {}, "lenet5_relu": {}, "resnet18": {"stem": "small"}, "resnet20": {}}


def shapes(model, images, **options):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(images), train=False))
    return variables, jax.eval_shape(lambda v, x: model.apply(v, x, **options), variables, jnp.zeros(images))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_logits_and_variables_are_float32_with_bfloat16(name):
    model = create_model(name, num_classes=5, dtype="bfloat16")
    training = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(0)}}
    variables, (logits, updates) = shapes(model, (2, 97, 80, 1), **training)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, updates.get("batch_stats")) == jax.tree.map(jnp.shape, variables.get("batch_stats"))


@pytest.mark.parametrize(
    ("name", "published", "ours"),
    [
        ("efficientnet_b0", {"dropout": 0.3, "stochastic_depth_prob": 0.1}, {"drop_rate": 0.3, "drop_path_rate": 0.1}),
        ("keras/EfficientNetB0", {"dropout_rate": 0.3, "drop_connect_rate": 0.1}, {"drop_rate": 0.3, "drop_path_rate": 0.1}),
        ("vgg11", {"dropout": 0.3}, {"drop_rate": 0.3}),
        ("timm/xception41", {"drop_rate": 0.3, "drop_path_rate": 0.1}, {"drop_rate": 0.3, "drop_path_rate": 0.1}),
    ],
)
def test_arguments_have_published_names_too(name, published, ours):
    model = create_model(name, **published)
    assert model == create_model(name, **ours)
    assert {field: getattr(model, field) for field in ours} == ours


@pytest.mark.parametrize(
    ("name", "features"), [("lenet5", 84), ("lenet5_relu", 84), ("resnet18", 512), ("resnet50", 2048), ("resnet20", 64)]
)
def test_without_classes_a_model_returns_features_and_has_no_head(name, features):
    variables, pooled = shapes(create_model(name, num_classes=0), (2, 32, 32, 3), train=False)
    assert (pooled.shape, pooled.dtype) == ((2, features), jnp.float32)
    assert "head" not in variables["params"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_has_a_gradient(name):
    model = create_model(name, num_classes=10, **SMALL[name])
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 1))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[:, 3].mean()

    for path, gradient in jax.tree_util.tree_leaves_with_path(compiled(jax.grad(loss), variables["params"])):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


@pytest.mark.slow
def test_bfloat16_results_are_close_to_float32():
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    exact_model, rough_model = (create_model("resnet20", dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = compiled(lambda key: exact_model.init(key, images, train=False), random_key(0))
    exact = compiled(lambda v, x: exact_model.apply(v, x, train=False), variables, images)
    rough = compiled(lambda v, x: rough_model.apply(v, x, train=False), variables, images)
    difference = np.abs(exact - rough).max() / np.std(exact)
    assert 1e-4 < difference < 0.1

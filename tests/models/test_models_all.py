"""What every model promises, on the smallest of each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled

from jaxcnn.layers import random_key
from jaxcnn.models import create_model, feature_maps, list_models
from jaxcnn.models.registry import find

SMALL = {"lenet5": {}, "lenet5_relu": {}, "resnet18": {"stem": "small"}, "resnet20": {}}


def shapes(model, images, **options):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(images), train=False))
    return variables, jax.eval_shape(lambda v, x: model.apply(v, x, **options), variables, jnp.zeros(images))


SMALLER = {"preact_resnet1001": "preact_resnet110", "keras/NASNetLarge": "keras/NASNetMobile"}
FIRST = {find(name).module: name for name in reversed(list_models())}  # a variant of each network
DEEP = (  # those whose tracing takes seconds
    "cbam_resnet101",
    "densenet121",
    "efficientnet_b0",
    "inception_resnet_v1",
    "inception_v3",
    "inception_v4",
    "keras/MobileNetV3Large",
    "keras/NASNetMobile",
    "keras/ResNet101",
    "keras/ResNet101V2",
    "preact_resnet110",
    "resnet101_v2",
    "timm/ecaresnet101d",
    "timm/resnetv2_101d",
    "timm/resnetv2_101x1_bit",
)
ONE_OF_EACH = sorted(SMALLER.get(name, name) for name in FIRST.values())


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in ONE_OF_EACH])
def test_logits_and_variables_are_float32_where_bfloat16_is_computed_in(name):
    model = create_model(name, num_classes=5, dtype="bfloat16")
    training = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": jax.random.key(0)}}
    variables, (logits, updates) = shapes(model, (2, 97, 80, 1), **training)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, updates.get("batch_stats")) == jax.tree.map(jnp.shape, variables.get("batch_stats"))


@pytest.mark.parametrize(
    ("name", "features"), [("lenet5", 84), ("lenet5_relu", 84), ("resnet18", 512), ("resnet50", 2048), ("resnet20", 64)]
)
def test_without_classes_a_model_gives_features_and_has_no_head(name, features):
    variables, pooled = shapes(create_model(name, num_classes=0), (2, 32, 32, 3), train=False)
    assert (pooled.shape, pooled.dtype) == ((2, features), jnp.float32)
    assert "head" not in variables["params"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
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
def test_bfloat16_computes_nearly_the_same():
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    exact_model, rough_model = (create_model("resnet20", dtype=dtype) for dtype in ("float32", "bfloat16"))
    variables = compiled(lambda key: exact_model.init(key, images, train=False), random_key(0))
    exact = compiled(lambda v, x: exact_model.apply(v, x, train=False), variables, images)
    rough = compiled(lambda v, x: rough_model.apply(v, x, train=False), variables, images)
    difference = np.abs(exact - rough).max() / np.std(exact)
    assert 1e-4 < difference < 0.1


def test_feature_maps_are_those_that_the_head_sees():
    model = create_model("resnet20")
    images = jax.random.normal(jax.random.key(1), (2, 32, 48, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    assert set(variables) == {"params", "batch_stats"}
    maps = feature_maps(model, variables, images)
    assert {name: x.shape for name, x in maps.items()} == {
        "stem": (2, 32, 48, 16), "stage1": (2, 32, 48, 16), "stage2": (2, 16, 24, 32), "stage3": (2, 8, 12, 64)
    }  # fmt: skip
    assert list(maps) == ["stem", "stage1", "stage2", "stage3"]
    head = variables["params"]["head"]
    logits = np.asarray(maps["stage3"]).mean((1, 2)) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(logits, model.apply(variables, images, train=False), atol=1e-5)

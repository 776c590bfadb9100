"""DenseNet against torchvision, Keras and the paper's table 2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models.densenet import HE, DenseNet
from jaxcnn.models.network import KERAS

TINY = {
    "flavor": HE,
    "depths": (2, 2),
    "growth": 4,
    "stem_filters": 8,
    "bottleneck": True,
    "compression": 0.5,
    "stem": "small",
}


def parameters_of(depth, growth, bottleneck, compression):
    """Section 3: (L - 4) / 3 layers per block, half as many with bottlenecks; a stem of 16 filters, or 2k with bottlenecks."""
    layers = (depth - 4) // 3 // (2 if bottleneck else 1)
    maps = 2 * growth if bottleneck else 16
    total = 27 * maps
    for block in range(3):
        for _ in range(layers):
            inner = 4 * growth
            total += 2 * maps + (maps * inner + 2 * inner + 9 * inner * growth if bottleneck else 9 * maps * growth)
            maps += growth
        if block < 2:
            total += 2 * maps + maps * int(compression * maps)
            maps = int(compression * maps)
    return total + 2 * maps + 10 * maps + 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "millions"),
    [
        ("densenet40_12", (40, 12, False, 1.0), "1.0"),
        ("densenet_bc100_12", (100, 12, True, 0.5), "0.8"),
        ("densenet_bc190_40", (190, 40, True, 0.5), "25.6"),
    ],
)
def test_parameter_count_for_cifar_is_that_of_table_2(name, shape, millions):
    params, _ = parameters(name, 32)
    assert count(params) == parameters_of(*shape)
    assert f"{count(params) / 1e6:.1f}" == millions
    assert sum("kernel" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)) == shape[0]


@pytest.mark.slow
def test_remat_changes_neither_variables_nor_gradients():
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    plain, again = (DenseNet(**TINY, drop_rate=0.2, remat=remat) for remat in (False, True))
    variables = compiled(lambda key: plain.init(key, images, train=False), random_key(0))

    def gradient(model, variables):
        def loss(params):
            logits, updates = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(2)},
            )
            return jnp.square(logits).sum(), updates

        return jax.grad(loss, has_aux=True)(variables["params"])

    expected, result = (compiled(lambda v, m=model: gradient(m, v), variables) for model in (plain, again))
    assert jax.tree.structure(expected) == jax.tree.structure(result)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), expected, result)


def started(**fields):
    model = DenseNet(**TINY | {"growth": 32, "stem_filters": 64} | fields)
    return compiled(lambda key: model.init(key, jnp.zeros((1, 8, 8, 3)), train=False), random_key(0))["params"]


def test_initialization_is_torchvisions():
    params = started()
    layer = params["stage2_layer2"]
    assert layer["conv1"]["kernel"].std() == pytest.approx((2 / 96) ** 0.5, rel=0.03)
    assert layer["conv2"]["kernel"].std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.03)
    assert 0.99 * 128**-0.5 < np.abs(params["head"]["kernel"]).max() <= 128**-0.5
    assert (params["head"]["bias"] == 0).all()


def test_keras_flavor_is_initialized_by_glorot():
    kernel = started(flavor=KERAS)["stage2_layer2"]["conv1"]["kernel"]
    assert kernel.std() == pytest.approx((2 / (96 + 128)) ** 0.5, rel=0.03)
    assert np.abs(kernel).max() <= (6 / (96 + 128)) ** 0.5


@pytest.mark.parametrize(
    ("name", "stem", "least"), [("densenet121", "imagenet", 29), ("densenet121", "small", 8), ("densenet40_12", "small", 4)]
)
def test_features_input_channels_and_minimum_size(name, stem, least):
    params, _ = parameters(name, least, channels=1, num_classes=0, stem=stem)
    assert params["stem_conv"]["kernel"].shape[:3] == ((7, 7, 1) if stem == "imagenet" else (3, 3, 1))
    assert "head" not in params
    with pytest.raises(UserError, match=f"too small for .*: at least {least}×{least}"):
        parameters(name, least - 1, stem=stem)


def test_frozen_norm_keeps_its_statistics():
    model = DenseNet(**TINY, freeze_norm=True)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(0))
    logits, updates = compiled(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]), variables)
    np.testing.assert_array_equal(logits, compiled(lambda v: model.apply(v, images, train=False), variables))
    jax.tree.map(np.testing.assert_array_equal, updates.get("batch_stats", {}), variables["batch_stats"])

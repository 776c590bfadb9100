"""RepVGG against timm, and its deployed form against the trained one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, parameters

from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.models.repvgg import RepVGG, deployed
from jaxcnn.weights.convert import adapt_stem


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 4])
def test_deployed_form_computes_the_same(groups):
    """For random parameters and running statistics of a small network with every kind of block."""
    trained, fused = (
        RepVGG(depths=(2, 3), widths=(8, 16, 16), groups=groups, num_classes=5, deploy=given) for given in (False, True)
    )
    images = jax.random.normal(jax.random.key(0), (2, 33, 29, 3))
    variables = compiled(lambda key: trained.init(key, images, train=False), random_key(1))
    random = np.random.default_rng(0)
    variables = {
        kind: jax.tree_util.tree_map_with_path(
            lambda path, leaf: np.float32(
                random.uniform(0.5, 2, leaf.shape)
                if path[-1].key in ("var", "scale")
                else leaf + random.normal(0, 0.3, leaf.shape)
            ),
            tree,
        )
        for kind, tree in variables.items()
    }
    single = deployed(variables)
    assert jax.tree.map(jnp.shape, single) == jax.tree.map(
        jnp.shape, jax.eval_shape(lambda: fused.init(jax.random.key(0), images, train=False))
    )
    expected = compiled(lambda v, x: trained.apply(v, x, train=False), variables, images)
    logits = compiled(lambda v, x: fused.apply(v, x, train=False), single, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.std(expected) > 0.1


@pytest.mark.parametrize(
    ("name", "millions"), [("timm/repvgg_a0", 8.30), ("timm/repvgg_b1g4", 36.12), ("timm/repvgg_b3", 110.96)]
)
def test_deployed_count_is_the_papers(name, millions):
    """Table 4 of the paper, in millions, truncated to two digits."""
    params, stats = parameters(name, deploy=True)
    assert count(params) // 10_000 == round(100 * millions)
    assert not stats


SMALL = {"depths": (1, 2), "widths": (16, 32, 128), "groups": 4, "num_classes": 40}


def init(model):
    return compiled(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False), random_key(0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_branch_has_a_gradient(dtype):
    model = RepVGG(**SMALL, dtype=dtype)
    images, variables = jax.random.normal(jax.random.key(1), (2, 32, 32, 3)), init(model)

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[:, 3].mean()

    for path, gradient in jax.tree_util.tree_leaves_with_path(compiled(jax.grad(loss), variables["params"])):
        assert np.isfinite(gradient).all(), path
        assert np.abs(gradient).max() > 0, path


def test_initialization_is_timms():
    params = init(RepVGG(**SMALL))["params"]
    block = params["stage2_block2"]
    assert block["conv"]["kernel"].std() == pytest.approx((2 / (9 * 128 / 4)) ** 0.5, rel=0.02)
    assert block["conv1x1"]["kernel"].std() == pytest.approx((2 / (128 / 4)) ** 0.5, rel=0.05)
    for norm in ("norm", "norm1x1", "norm_identity"):
        assert block[norm]["scale"].mean() == pytest.approx(0.1, abs=0.03)
        assert block[norm]["scale"].std() == pytest.approx(0.1, rel=0.2)
        assert block[norm]["bias"].std() == pytest.approx(0.1, rel=0.2)
    assert params["head"]["kernel"].std() == pytest.approx(0.01, rel=0.05)


def test_both_branches_of_the_stem_are_adapted_to_gray_images():
    model = RepVGG(**SMALL)
    variables = init(model)
    gray = jax.random.normal(jax.random.key(1), (1, 32, 32, 1))
    adapted = compiled(lambda v, x: model.apply(v, x, train=False), adapt_stem(variables, 1), gray)
    repeated = compiled(lambda v, x: model.apply(v, x, train=False), variables, jnp.repeat(gray, 3, -1))
    np.testing.assert_allclose(adapted, repeated, atol=1e-5)


def test_without_classes_it_returns_features_for_any_number_of_channels():
    params, _ = parameters("timm/repvgg_a0", 33, channels=5, num_classes=0)
    assert "head" not in params
    assert params["stem_conv"]["kernel"].shape == (3, 3, 5, 48)


def test_images_without_channels_are_refused():
    with pytest.raises(UserError, match="timm/repvgg_a0: expected images of shape"):
        create_model("timm/repvgg_a0").init({}, np.zeros((2, 32, 32)), train=False)

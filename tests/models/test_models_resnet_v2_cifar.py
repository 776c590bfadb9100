"""CIFAR's pre-activation and wide networks against their papers; scanned against plain blocks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.compiling import compiled
from common.promises import count, initialized, parameters

from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.models.resnet_cifar import Block, CifarResNet
from jaxcnn.models.resnet_v2_cifar import PreActCifarResNet, bottleneck


@pytest.mark.parametrize(
    ("name", "depth", "width", "millions"),
    [("wrn_40_4", 40, 4, "8.9"), ("wrn_16_8", 16, 8, "11.0"), ("wrn_28_10", 28, 10, "36.5")],
)
def test_parameter_count_of_wide_networks_is_the_papers(name, depth, width, millions):
    inputs, expected = 16, 27 * 16
    for filters in (16 * width, 32 * width, 64 * width):
        expected += inputs * filters
        for _ in range((depth - 4) // 6):
            expected += 2 * inputs + 9 * inputs * filters + 2 * filters + 9 * filters**2
            inputs = filters
    expected += 2 * inputs + inputs * 10 + 10
    assert count(parameters(name, 32)[0]) == expected
    assert f"{expected / 1e6:.1f}" == millions


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "millions"), [(164, "1.7"), (1001, "10.2")])
def test_parameter_count_of_bottlenecks_is_the_papers(layers, millions):
    """The paper's count excludes norms."""
    inputs, convolutions, norms = 16, 27 * 16, 0
    for filters in (16, 32, 64):
        convolutions += inputs * 4 * filters
        for _ in range((layers - 2) // 9):
            convolutions += inputs * filters + 9 * filters**2 + 4 * filters**2
            norms += 2 * inputs + 4 * filters
            inputs = 4 * filters
    norms += 2 * inputs
    params, stats = parameters(f"preact_resnet{layers}", 32)
    assert count(params) == convolutions + norms + 256 * 10 + 10
    assert count(stats) == norms
    assert f"{(convolutions + 2570) / 1e6:.1f}" == millions


def test_parameter_count_of_110_layers_is_the_papers():
    params, stats = parameters("preact_resnet110", 32)
    assert count(params) == 27 * 16 + 9 * 36 * (16**2 + 32**2 + 64**2) - 9 * (16 * 32 + 32 * 64) + count(stats) + 650
    assert f"{count(params) / 1e6:.1f}" == "1.7"


@pytest.mark.slow
def test_initialization_is_that_of_the_authors_code():
    wide = initialized("wrn_16_4", 32)["stage3_block1"]["conv1"]["kernel"]
    assert wide.std() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    narrow = initialized("preact_resnet164", 8)
    assert narrow["stage3_block1"]["conv1"]["kernel"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert (narrow["head"]["bias"] == 0).all()


@pytest.mark.slow
def test_dropout_is_active_only_in_training():
    model = create_model("wrn_16_4", dropout=0.5, freeze_norm=True)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = compiled(lambda key: model.init(key, images, train=False), random_key(1))

    def logits(key, train):
        return compiled(lambda v, x, key: model.apply(v, x, train=train, rngs={"dropout": key}), variables, images, key)

    assert np.abs(logits(jax.random.key(1), True) - logits(jax.random.key(2), True)).max() > 0.01
    np.testing.assert_array_equal(logits(jax.random.key(1), False), logits(jax.random.key(2), False))


KINDS = {
    "first version": partial(CifarResNet, depth=3, block=Block, filters=(16, 32, 64)),
    "pre-activation": partial(PreActCifarResNet, depth=3, block=bottleneck, filters=(4, 8, 8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_scanned_and_rematerialized_networks_compute_the_same(kind):
    """Logits, gradients and running statistics for the same variables."""
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = compiled(lambda key: KINDS[kind]().init(key, images, train=False), random_key(1))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda v: v + jnp.asarray(rng.uniform(0, 0.1, v.shape), jnp.float32), variables)

    def step(model):
        def loss(params):
            logits, updates = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return -jax.nn.log_softmax(logits)[:, 3].mean(), updates

        evaluated = model.apply(variables, images, train=False)
        return evaluated, *jax.value_and_grad(loss, has_aux=True)(variables["params"])

    plain = compiled(lambda: step(KINDS[kind]()))
    for options in ({"scan": True}, {"scan": True, "remat": True}):
        result = compiled(lambda o=options: step(KINDS[kind](**o)))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), plain, result)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "scan"), [("first version", True), ("pre-activation", True), ("pre-activation", False)])
def test_rate_of_stochastic_depth_grows_with_depth(kind, scan):
    """At rate 1 the last block is dropped for all images in training, others for some, and none in evaluation."""
    model = KINDS[kind](drop_path_rate=1.0, freeze_norm=True, scan=scan)
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    variables = compiled(lambda key: model.init(key, images[:1], train=False), random_key(1))
    rngs = {"dropout": jax.random.key(2)}
    apply = partial(model.apply, mutable=["intermediates"], rngs=rngs)

    def last_branch(variables, train):
        """How much each image's features change with the last block's last kernel."""
        last = max(layer for layer in variables["params"]["stage3_block3"] if layer.startswith("conv"))
        changed = jax.tree.map(lambda v: v, variables)
        changed["params"]["stage3_block3"][last]["kernel"] = 2 * variables["params"]["stage3_block3"][last]["kernel"]
        first, second = (apply(v, images, train=train)[1]["intermediates"]["stage3"][0] for v in (variables, changed))
        return jnp.abs(first - second).max((1, 2, 3))

    assert (compiled(lambda v: last_branch(v, True), variables) == 0).all()
    assert (compiled(lambda v: last_branch(v, False), variables) > 0).all()

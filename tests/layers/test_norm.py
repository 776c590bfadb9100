"""Batch normalization, against flax.linen.BatchNorm differentiated by JAX, and against float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcnn.layers import BatchNorm, relu

SCALE, BIAS = jnp.array([0.5, 1.0, 2.0, -1.0]), jnp.array([0.1, -0.2, 0.0, 1.0])


def loss(norm, x, scale, bias, stats):
    """A loss that depends on the result and on the running statistics."""
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
    y, updates = norm.apply(variables, x, mutable=["batch_stats"])
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    stats = updates["batch_stats"]
    return (nn.relu(y.astype(jnp.float32)) * weights).sum() + stats["mean"].sum() + 3 * stats["var"].sum()


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 7, 4)])
def test_result_and_all_gradients_equal_flax(shape, offset):
    x = offset + jax.random.normal(jax.random.key(0), shape)
    stats = {"mean": jnp.zeros(4), "var": jnp.ones(4)}
    ours = BatchNorm(use_running_average=False, unbiased=False, momentum=0.25)
    flaxs = nn.BatchNorm(use_running_average=False, momentum=0.75, use_fast_variance=False)
    (value, gradients), (expected, expected_gradients) = (
        jax.value_and_grad(loss, argnums=(1, 2, 3))(norm, x, SCALE, BIAS, stats) for norm in (ours, flaxs)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for ours, flaxs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, flaxs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_mean_far_from_zero_does_not_cancel_the_variance(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # the backends sum in different ways
    x = np.float32(3000 + np.random.default_rng(0).normal(size=(4, 8, 8, 4)))
    norm = BatchNorm(use_running_average=False, unbiased=False, momentum=1.0)
    y, updates = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    x64 = x.astype(np.float64).reshape(-1, 4)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], x64.mean(0), rtol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], x64.var(0), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(y).reshape(-1, 4), (x64 - x64.mean(0)) / x64.std(0), atol=1e-3)


def test_constant_channels_stay_finite():
    norm = BatchNorm(use_running_average=False)
    x = jnp.full((2, 3, 3, 2), 0.1)
    variables = norm.init(jax.random.key(0), x)
    gradient = jax.grad(lambda x: jnp.square(norm.apply(variables, x, mutable=["batch_stats"])[0] - 1).sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_bfloat16_is_normalized_in_float32_and_its_gradient_is_bfloat16():
    x = (5 + jax.random.normal(jax.random.key(0), (4, 6, 6, 4))).astype(jnp.bfloat16)
    norm, stats = BatchNorm(use_running_average=False, dtype=jnp.bfloat16), {"mean": jnp.zeros(4), "var": jnp.ones(4)}
    exact = BatchNorm(use_running_average=False)
    rough = jax.grad(loss, argnums=1)(norm, x, SCALE, BIAS, stats)
    assert rough.dtype == jnp.bfloat16
    expected = jax.grad(loss, argnums=1)(exact, x.astype(jnp.float32), SCALE, BIAS, stats)
    np.testing.assert_allclose(rough.astype(jnp.float32), expected, atol=0.02, rtol=0.02)


def test_gradients_of_a_sharded_batch_equal_those_of_the_unsharded_batch():
    x, stats = jax.random.normal(jax.random.key(0), (16, 3, 2, 4)), {"mean": jnp.zeros(4), "var": jnp.ones(4)}
    norm = BatchNorm(use_running_average=False)
    gradients = jax.jit(jax.grad(lambda *arguments: loss(norm, *arguments), argnums=(0, 1, 2)))
    expected = gradients(x, SCALE, BIAS, stats)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    everywhere = jax.device_put((SCALE, BIAS, stats), NamedSharding(mesh, PartitionSpec()))
    found = jax.block_until_ready(gradients(sharded, *everywhere))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.slow
def test_gradient_of_the_gradient_is_that_of_the_formula():
    def by_formula(x):
        return (x - x.mean(0, keepdims=True)) * jax.lax.rsqrt(x.var(0, keepdims=True) + 1e-5)

    norm, x = BatchNorm(use_running_average=False), jax.random.normal(jax.random.key(0), (5, 4))
    variables = norm.init(jax.random.key(0), x)

    def by_layer(x):
        return norm.apply(variables, x, mutable=["batch_stats"])[0]

    def penalty(f, x):
        return jnp.square(jax.grad(lambda x: jnp.sin(3 * f(x)).sum())(x)).sum()

    first, second = (jax.grad(lambda x, f=f: penalty(f, x))(x) for f in (by_layer, by_formula))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.relu, nn.relu6, nn.silu])
@pytest.mark.parametrize("training", [True, False])
def test_fused_activation_equals_separate_activation(activation, training):
    x = 3 * jax.random.normal(jax.random.key(0), (6, 5, 5, 4))
    variables = {"params": {"scale": SCALE, "bias": BIAS}, "batch_stats": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}

    def total(norm, after):
        def of(x):
            return jnp.square(after(norm.apply(variables, x, mutable=["batch_stats"])[0]) - 1).sum()

        return jax.value_and_grad(of)

    plain = BatchNorm(use_running_average=not training)
    within = plain.clone(activation=activation)
    for found, expected in zip(total(within, lambda y: y)(x), total(plain, activation)(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_relu_with_gradient_from_its_result_equals_flax():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf, jnp.nan])
    for function in (lambda f: f(x), lambda f: jax.vjp(f, x)[1](x + 1)[0], lambda f: jax.jvp(f, (x,), (x - 1,))[1]):
        np.testing.assert_array_equal(function(relu), function(nn.relu))

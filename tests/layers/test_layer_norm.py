"""Layer normalization with jax.numpy and with the oneDNN handler, against flax.linen.LayerNorm and float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_close, assert_refused, library, needs_onednn, normal, use_xla

from jaxcnn.layers import LayerNorm
from jaxcnn.layers.norm import _backward_by_jax, _forward_by_jax, layer_normalized
from jaxcnn.layers.onednn import LayerNormSettings, self_test
from jaxcnn.layers.onednn.library import LAYER_NORM_TARGET

SETTINGS = LayerNormSettings(1e-3)
# Row lengths that are not multiples of the vector length; fewer rows than threads; more rows than are summed in float32
SHAPES = [(3, 5, 7, 13), (1, 24), (140, 40), (2, 1300)]


def weighted_sum(y):
    return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()


def loss(x, scale, bias):
    return weighted_sum(layer_normalized(x, scale, bias, SETTINGS))


def by_jax(x, scale, bias):
    """The same loss, differentiated by JAX."""
    return weighted_sum(_forward_by_jax(x, scale, bias, settings=SETTINGS)[0])


def operands(*shape):
    return 1 + normal(0, *shape), 1 + normal(1, shape[-1]), normal(2, shape[-1])


@pytest.mark.parametrize("choice", ["xla", "default"])
def test_result_and_all_gradients_equal_flax(choice, monkeypatch):
    if choice == "xla":
        use_xla(monkeypatch)
    x, scale, bias = operands(3, 4, 5, 24)

    def of(norm):
        def total(x, scale, bias):
            y = norm.apply({"params": {"scale": scale, "bias": bias}}, x)
            return jnp.square(y - jnp.sin(x)).sum(), y

        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(x, scale, bias)

    assert_close(of(LayerNorm()), of(nn.LayerNorm(use_fast_variance=False)), 2e-5)


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_handler_computes_the_definition(shape):
    x, scale, bias, y_gradient, *_ = self_test.norm_operands(np.random.default_rng(0), shape)
    y, *gradients = (np.full_like(array, np.nan) for array in (x, x, scale, scale))
    assert library().run_layer_norm(1e-3, [x, scale, bias, y]) == 0
    assert library().run_layer_norm(1e-3, [x, scale, bias, y, y_gradient, *gradients]) == 0
    expected = self_test.layer_norm_by_definition(x, scale, bias, y_gradient, epsilon=1e-3)
    for result, reference in zip((y, *gradients), expected, strict=True):
        np.testing.assert_allclose(result.reshape(reference.shape), reference, rtol=0, atol=2e-6 * np.abs(reference).max())


def test_gradient_in_jax_is_that_of_the_definition():
    x, scale, bias, y_gradient, *_ = self_test.norm_operands(np.random.default_rng(0), (6, 5, 13))
    y, *expected = self_test.layer_norm_by_definition(x, scale, bias, y_gradient, epsilon=1e-3)
    results = (*_forward_by_jax(x, scale, bias, settings=SETTINGS), *_backward_by_jax(x, scale, y_gradient, settings=SETTINGS))
    for result, reference in zip(results, (y, *expected), strict=True):
        result = np.reshape(result, reference.shape)
        np.testing.assert_allclose(result, reference, rtol=0, atol=2e-6 * np.abs(reference).max())


@needs_onednn
def test_mean_far_from_zero_loses_no_precision():
    x = np.float32(3000 + np.random.default_rng(0).normal(size=(9, 200)))
    x64 = x.astype(np.float64)
    expected = (x64 - x64.mean(1, keepdims=True)) / np.sqrt(x64.var(1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(layer_normalized(x, jnp.ones(200), jnp.zeros(200), SETTINGS), expected, atol=1e-3)


@needs_onednn
def test_handler_returns_the_same_bits_each_time():
    arguments = operands(20, 16, 16, 24)
    gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*arguments).compile()
    before = library().counters().norms
    first = jax.block_until_ready(gradient(*arguments))
    assert library().counters().norms == before + 2, "forward and backward"
    assert_close(first, jax.jit(jax.value_and_grad(by_jax, (0, 1, 2)))(*arguments), 1e-4)
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, gradient(*arguments), first)


def test_bfloat16_is_normalized_in_float32_and_its_gradient_is_bfloat16():
    x, scale, bias = operands(4, 6, 32)
    rough = jax.grad(loss)(x.astype(jnp.bfloat16), scale, bias)
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(rough.astype(jnp.float32), jax.grad(loss)(x, scale, bias), atol=0.03)


@pytest.mark.slow
def test_higher_derivatives_vmap_and_remat():
    arguments = operands(3, 2, 5)

    def sharpness(of):
        return lambda *a: sum(jnp.square(g).sum() for g in jax.grad(of, (0, 1, 2))(*a))

    assert_close(*(jax.grad(sharpness(of), (0, 1, 2))(*arguments) for of in (loss, by_jax)), 1e-4)
    assert_close(*(jax.jvp(jax.grad(of), arguments, arguments) for of in (loss, by_jax)), 1e-4)
    stacked = (normal(0, 3, 4, 5, 8), 1 + normal(1, 3, 8), normal(2, 8))
    found, expected = (jax.vmap(jax.grad(jax.checkpoint(of), (0, 1, 2)), (0, 0, None))(*stacked) for of in (loss, by_jax))
    assert_close(found, expected, 2e-5)


@needs_onednn
def test_wrong_call_raises_and_the_next_call_is_correct():
    x, scale, bias = operands(2, 6, 4)
    right = jax.ffi.ffi_call(LAYER_NORM_TARGET, jax.ShapeDtypeStruct(x.shape, jnp.float32))
    epsilon = np.asarray(SETTINGS, np.float32)
    assert_refused(
        {
            "do not match": lambda: right(x, scale[:2], bias, settings=epsilon),
            "types do not match": lambda: right(x.astype(jnp.bfloat16), scale, bias, settings=epsilon),
            "unexpected settings": lambda: right(x, scale, bias, settings=epsilon[:0]),
            "expected 3 operands of a norm": lambda: right(x, scale, settings=epsilon),
        }
    )
    assert_close(right(x, scale, bias, settings=epsilon), _forward_by_jax(x, scale, bias, settings=SETTINGS)[0], 2e-5)

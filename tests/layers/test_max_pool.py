"""Max pooling on CPUs, against XLA's reduce_window and its gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.layers import max_pool

CASES = {  # size, stride, padding, ceil_mode, and the equivalent padding for XLA
    "disjoint": (2, 2, 0, False, ((0, 0), (0, 0))),
    "overlapping": (3, 2, 1, False, ((1, 1), (1, 1))),
    "of stride 1": (3, 1, 1, False, ((1, 1), (1, 1))),
    "over the far edge": (3, 2, 0, True, ((0, 1), (0, 0))),
    "as TensorFlow pads": (3, 2, "SAME", False, "SAME"),
    "with gaps": (1, 2, 0, False, ((0, 0), (0, 0))),
    "larger": (5, 3, 2, False, ((2, 2), (2, 2))),
}


def both(case, x):
    size, stride, padding, ceil_mode, pads = CASES[case]

    def ours(x):
        return max_pool(x, size, stride, padding=padding, ceil_mode=ceil_mode)

    def reference(x):
        return nn.max_pool(x, (size, size), (stride, stride), pads)

    weights = np.random.default_rng(1).standard_normal(jax.eval_shape(reference, x).shape)

    def with_gradient(pool):
        return jax.jit(lambda x: (pool(x), jax.grad(lambda x: (pool(x) * jnp.asarray(weights, x.dtype)).sum())(x)))(x)

    return with_gradient(ours), with_gradient(reference)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_equal_reduce_window_also_for_ties(case, dtype):
    # few distinct values: with XLA and here, the gradient of a window goes to the first of equal maxima
    x = jnp.asarray(np.random.default_rng(0).integers(-3, 3, (2, 10, 9, 3)), dtype)
    (y, gradient), (expected, expected_gradient) = both(case, x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    # gradients of overlapping windows are summed in another order
    np.testing.assert_allclose(
        gradient.astype(np.float32), expected_gradient.astype(np.float32), atol=1e-6 if dtype == jnp.float32 else 0.05
    )


def test_nan_is_propagated():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 0, 0], x[0, 3, 3] = np.nan, np.nan  # first and last of their windows
    np.testing.assert_array_equal(np.isnan(max_pool(jnp.asarray(x), 2, 2))[0, :, :, 0], np.eye(2, dtype=bool))


def test_cpu_program_does_not_use_select_and_scatter():
    def gradient(size):
        return jax.jit(jax.grad(lambda x: max_pool(x, size, 2).sum())).lower(jnp.zeros((1, 8, 8, 1))).as_text()

    assert "select_and_scatter" not in gradient(3)
    assert "select_and_scatter" in gradient(5)

"""oneDNN's convolutions against JAX's own: values, derivatives of all orders, vmap, scan and remat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_close, call_and_count, jax_convolution, needs_onednn, network_convolution, normal

pytestmark = [needs_onednn, pytest.mark.instruction_set]

CASES = {  # images, kernel, options
    "3×3": ((2, 9, 9, 8), (3, 3, 8, 16), {}),
    "of three channels, stride 2, odd size": ((2, 15, 13, 3), (7, 7, 3, 24), {"strides": (2, 2), "padding": ((3, 3), (3, 3))}),
    "patches": ((2, 16, 16, 3), (4, 4, 3, 8), {"strides": (4, 4), "padding": "VALID"}),
    "1×1": ((2, 9, 11, 5), (1, 1, 5, 7), {}),
    "1×1, stride 2": ((2, 9, 11, 16), (1, 1, 16, 32), {"strides": (2, 2), "padding": "VALID"}),
    # With strides oneDNN writes past the end of its memory here: the gradient is wrong, or its threads wait forever
    "1×1, stride 2, of three channels": ((2, 14, 32, 3), (1, 1, 3, 24), {"strides": (2, 2), "padding": "VALID"}),
    "1×7, strides differ": ((2, 9, 16, 8), (1, 7, 8, 8), {"strides": (1, 2)}),
    "more padding at the end": ((2, 10, 10, 8), (3, 3, 8, 8), {"strides": (2, 2), "padding": ((0, 1), (0, 2))}),
    "dilated": ((2, 10, 9, 8), (3, 3, 8, 16), {"padding": ((2, 2), (2, 2)), "rhs_dilation": (2, 2)}),
    "grouped": ((2, 14, 14, 12), (3, 3, 4, 24), {"feature_group_count": 3}),
    "grouped, dilated": ((2, 10, 9, 16), (3, 3, 8, 32), {"feature_group_count": 2, "rhs_dilation": (2, 1)}),
    "depthwise": ((2, 9, 9, 32), (3, 3, 1, 32), {"feature_group_count": 32}),
    "depthwise, twice the channels, stride 2": ((2, 9, 9, 16), (5, 5, 1, 32), {"strides": (2, 2), "feature_group_count": 16}),
    "rows that no window contains": ((2, 8, 8, 8), (2, 2, 8, 8), {"strides": (3, 3), "padding": "VALID"}),
}


def value_and_gradients(convolution):
    """Returns (x, kernel, dy) -> results, gradient of x, gradient of the kernel."""

    def function(x, kernel, dy):
        results, pull = jax.vjp(convolution, x, kernel)
        return results, *pull(dy)

    return function


@pytest.mark.parametrize("case", CASES)
def test_values_and_both_gradients_equal_jaxs(case):
    x_shape, kernel_shape, options = CASES[case]
    x, kernel = normal(0, *x_shape), normal(1, *kernel_shape)
    dy = normal(2, *jax.eval_shape(jax_convolution(**options), x, kernel).shape)
    found, counts = call_and_count(value_and_gradients(network_convolution(**options)), x, kernel, dy)
    assert counts == [(1, 2), (1, 2), (1, 2)], "one call of each operation"
    assert_close(found, jax.jit(value_and_gradients(jax_convolution(**options)))(x, kernel, dy))


@pytest.mark.parametrize("groups", [1, 16])
def test_bfloat16_is_rounded_once(groups):
    """The result is that of float32 arithmetic on the same bfloat16 numbers, to half a unit in the last place of bfloat16."""
    x, kernel = normal(0, 2, 9, 9, 16, dtype=jnp.bfloat16), normal(1, 3, 3, 16 // groups, 16, dtype=jnp.bfloat16)
    dy = normal(2, 2, 9, 9, 16, dtype=jnp.bfloat16)
    found, counts = call_and_count(value_and_gradients(network_convolution(feature_group_count=groups)), x, kernel, dy)
    assert counts == [(1, 2), (1, 2), (1, 2)]
    assert [array.dtype for array in found] == [jnp.bfloat16] * 3
    wide = [array.astype(jnp.float32) for array in (x, kernel, dy)]
    expected = jax.jit(value_and_gradients(jax_convolution(feature_group_count=groups)))(*wide)
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(actual, np.float32), desired, rtol=2**-8, atol=1e-4)


def energy(convolution):
    """Returns a loss with nonzero derivatives of order 1 to 4."""
    return lambda x, kernel: jnp.square(convolution(x, kernel)).sum()


SECOND_DERIVATIVES = {
    "gradient of a gradient": lambda loss: jax.grad(
        lambda *a: sum(jnp.square(g).sum() for g in jax.grad(loss, (0, 1))(*a)), (0, 1)
    ),
    "Hessian times a vector": lambda loss: lambda *a: jax.jvp(jax.grad(loss, (0, 1)), a, jax.tree.map(jnp.sin, a))[1],
    "forward over forward": lambda loss: (
        lambda *a: jax.jvp(lambda *b: jax.jvp(loss, b, jax.tree.map(jnp.sin, a))[1], a, jax.tree.map(jnp.cos, a))[1]
    ),
}


@pytest.mark.parametrize("how", SECOND_DERIVATIVES)
def test_second_derivatives_equal_jaxs(how):
    options = {"strides": (2, 2), "feature_group_count": 2}
    x, kernel = normal(0, 2, 7, 6, 8), normal(1, 3, 3, 4, 8) / 6
    found, counts = call_and_count(SECOND_DERIVATIVES[how](energy(network_convolution(**options))), x, kernel)
    assert sum(calls for calls, _ in counts) >= 3
    assert_close(found, jax.jit(SECOND_DERIVATIVES[how](energy(jax_convolution(**options))))(x, kernel), 4e-6)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, -1)])
@pytest.mark.parametrize("order", ["vmap of gradient", "gradient of vmap"])
def test_vmap_is_one_call_of_the_handler(axes, order):
    """As for several seeds, each on its own images or all on the same ones, and for one network on several batches."""
    sizes = [3 if axis is not None else 1 for axis in axes]
    x, kernel = (
        jnp.stack([normal(10 * place + i, *shape) for i in range(size)], axis) if axis is not None else normal(place, *shape)
        for place, (axis, size, shape) in enumerate(zip(axes, sizes, ((2, 7, 6, 8), (3, 3, 8, 8)), strict=True))
    )

    def derivatives(convolution):
        if order == "vmap of gradient":
            return jax.vmap(jax.grad(energy(convolution), (0, 1)), axes)
        return jax.grad(lambda *a: jax.vmap(energy(convolution), axes)(*a).sum(), (0, 1))

    found, counts = call_and_count(derivatives(network_convolution()), x, kernel)
    assert counts == [(1, 6), (1, 6), (1, 6)], "one call computes the stack of three convolutions"
    assert_close(found, jax.jit(derivatives(jax_convolution()))(x, kernel))


def test_vmap_in_vmap():
    x, kernel = normal(0, 2, 3, 2, 7, 6, 8), normal(1, 2, 3, 3, 8, 8)

    def derivatives(convolution):
        return jax.vmap(jax.vmap(jax.grad(energy(convolution), (0, 1)), (0, None)), (0, 0))

    found, counts = call_and_count(derivatives(network_convolution()), x, kernel)
    assert counts == [(1, 12), (1, 12), (1, 12)]
    assert_close(found, jax.jit(derivatives(jax_convolution()))(x, kernel))


def test_scan_and_remat():
    x, kernels = normal(0, 2, 6, 6, 8), normal(1, 4, 3, 3, 8, 8) / 10

    def loss(convolution):
        def layer(x, kernel):
            return jnp.tanh(convolution(x, kernel)), None

        return lambda x, kernels: jax.lax.scan(jax.checkpoint(layer), x, kernels)[0].sum()

    found, counts = call_and_count(jax.grad(loss(network_convolution()), (0, 1)), x, kernels)
    assert counts == [(8, 16), (4, 8), (4, 8)], "the backward pass recomputes the activations"
    assert_close(found, jax.jit(jax.grad(loss(jax_convolution()), (0, 1)))(x, kernels), 4e-6)


def test_gradients_outside_jit():
    x, kernel = normal(0, 2, 6, 6, 8), normal(1, 3, 3, 8, 8)
    assert_close(
        jax.grad(energy(network_convolution()), (0, 1))(x, kernel),
        jax.jit(jax.grad(energy(jax_convolution()), (0, 1)))(x, kernel),
    )


def test_results_are_deterministic():
    x, kernel, dy = normal(0, 16, 14, 14, 32), normal(1, 3, 3, 32, 64), normal(2, 16, 14, 14, 64)
    function = jax.jit(value_and_gradients(network_convolution()))
    expected = [np.asarray(array) for array in function(x, kernel, dy)]
    for _ in range(20):
        for actual, desired in zip(function(x, kernel, dy), expected, strict=True):
            np.testing.assert_array_equal(actual, desired)

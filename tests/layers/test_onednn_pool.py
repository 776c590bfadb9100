"""The maximum of windows by the handler: against jax.numpy's, which test_max_pool.py compares with XLA's, and transformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_close, assert_refused, library, needs_onednn
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.layers.onednn import maximum_of_windows
from jaxcnn.layers.onednn.library import POOL_TARGET
from jaxcnn.layers.onednn.pools import PoolSettings, _greatest_by_jax

pytestmark = needs_onednn
CASES = {
    "ResNet's": ((3, 17, 16, 24), PoolSettings(3, 2, ((1, 1), (1, 1)), (17, 16))),
    "few channels, uneven": ((2, 7, 9, 3), PoolSettings(2, 2, ((0, 1), (1, 0)), (7, 9))),
    "of stride 1": ((1, 5, 6, 40), PoolSettings(3, 1, ((1, 1), (0, 2)), (5, 6))),
    "with gaps": ((2, 11, 12, 8), PoolSettings(2, 3, ((0, 0), (0, 0)), (11, 12))),
}


def whole_numbers(*shape):
    """Many of them equal."""
    return jnp.asarray(np.random.default_rng(0).integers(-3, 3, shape), jnp.float32)


def ours(x, settings):
    return maximum_of_windows(x, settings.size, settings.stride, settings.padding)


def jaxs(x, settings):
    return _greatest_by_jax(x, settings=settings)[0]


def pools(function, *arguments):
    """(result, pools that the handler computed) of one call of the compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile()
    before = library().counters().pools
    return jax.block_until_ready(compiled(*arguments)), library().counters().pools - before


def gradient(of, settings):
    return jax.grad(lambda x, weights: (of(x, settings) * weights).sum())


def weights_of(shape, settings):
    return jnp.asarray(np.random.default_rng(1).standard_normal((shape[0], *settings.output, shape[3])), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_maxima_and_gradient(case):
    shape, settings = CASES[case]
    x, weights = whole_numbers(*shape), weights_of(*CASES[case])
    y, done = pools(lambda x: ours(x, settings), x)
    assert done == 1
    np.testing.assert_array_equal(y, jaxs(x, settings))
    found, done = pools(gradient(ours, settings), x, weights)
    assert done == 2, "forward and backward"
    assert_close(found, gradient(jaxs, settings)(x, weights))


def test_nan_wins_and_what_is_around_never_does():
    shape, settings = CASES["ResNet's"]
    x = (whole_numbers(*shape) - 100).at[0, 3, 4, 5].set(jnp.nan).at[1, 0, 0, 0].set(-jnp.inf)
    np.testing.assert_array_equal(ours(x, settings), jaxs(x, settings))


@pytest.mark.slow
def test_derivatives_forward_backward_and_of_higher_order():
    shape, settings = CASES["few channels, uneven"]
    x, weights = whole_numbers(*shape), weights_of(*CASES["few channels, uneven"])

    def loss(of):
        return lambda x: (jnp.square(of(x, settings)) * weights).sum()

    for derivative in (
        lambda f: jax.jvp(f, (x,), (jnp.cos(x),)),
        lambda f: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
        lambda f: jax.grad(lambda x: jnp.sin(jax.grad(f)(x)).sum())(x),
        lambda f: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
        lambda f: jax.grad(jax.checkpoint(f))(x),
    ):
        assert_close(derivative(loss(ours)), derivative(loss(jaxs)))


@pytest.mark.slow
def test_several_devices_and_other_programs_have_jaxs():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    settings = PoolSettings(3, 2, ((1, 1), (1, 1)), (6, 6))
    x, weights = whole_numbers(8, 6, 6, 4), weights_of((8, 6, 6, 4), settings)
    expected = gradient(jaxs, settings)(x, weights)
    shared = jax.device_put((x, weights), NamedSharding(mesh, P("data")))
    found, done = pools(gradient(ours, settings), *shared)
    assert done == 0
    assert found.sharding.spec[0] == "data"
    assert_close(found, expected)
    exported = export.export(jax.jit(gradient(ours, settings)))(x, weights)
    assert POOL_TARGET not in exported.mlir_module()
    assert_close(exported.call(x, weights), expected)


def test_wrong_call_is_an_exception_and_the_next_is_right():
    x, numbers = whole_numbers(2, 6, 6, 4), np.asarray([2, 2, 0, 0])
    y = jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.float32)
    right = jax.ffi.ffi_call(POOL_TARGET, [y, y.update(dtype=jnp.uint8)])
    assert_refused(
        {
            "shapes don't fit": lambda: right(x[:1], settings=numbers),
            "types don't fit": lambda: right(x.astype(jnp.bfloat16), settings=numbers),
            "size, stride and padding": lambda: right(x, settings=numbers[:3]),
            "not called as expected": lambda: right(x, x, x, settings=numbers),
        }
    )
    expected = _greatest_by_jax(x, settings=PoolSettings(2, 2, ((0, 0), (0, 0)), (6, 6)))
    assert_close(tuple(right(x, settings=numbers)), expected)

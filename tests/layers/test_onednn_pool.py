"""Maximum pooling by the handler, against jax.numpy's form (which test_max_pool.py compares with XLA's), and transformed."""

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
from jaxcnn.layers.onednn.pools import PoolSettings, _max_pool_by_jax

pytestmark = needs_onednn
CASES = {
    "of ResNet": ((3, 17, 16, 24), PoolSettings(3, 2, ((1, 1), (1, 1)), (17, 16))),
    "few channels, uneven padding": ((2, 7, 9, 3), PoolSettings(2, 2, ((0, 1), (1, 0)), (7, 9))),
    "of stride 1": ((1, 5, 6, 40), PoolSettings(3, 1, ((1, 1), (0, 2)), (5, 6))),
    "with gaps": ((2, 11, 12, 8), PoolSettings(2, 3, ((0, 0), (0, 0)), (11, 12))),
}


def whole_numbers(*shape):
    """Returns small integers, many of which are equal."""
    return jnp.asarray(np.random.default_rng(0).integers(-3, 3, shape), jnp.float32)


def by_handler(x, settings):
    return maximum_of_windows(x, settings.size, settings.stride, settings.padding)


def reference(x, settings):
    return _max_pool_by_jax(x, settings=settings)[0]


def call_and_count(function, *arguments):
    """Compiles and calls a function; returns its result and the number of pools that the handler computed."""
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
    y, calls = call_and_count(lambda x: by_handler(x, settings), x)
    assert calls == 1
    np.testing.assert_array_equal(y, reference(x, settings))
    found, calls = call_and_count(gradient(by_handler, settings), x, weights)
    assert calls == 2, "forward and backward"
    assert_close(found, gradient(reference, settings)(x, weights))


def test_nan_is_the_maximum_and_padding_never_is():
    shape, settings = CASES["of ResNet"]
    x = (whole_numbers(*shape) - 100).at[0, 3, 4, 5].set(jnp.nan).at[1, 0, 0, 0].set(-jnp.inf)
    np.testing.assert_array_equal(by_handler(x, settings), reference(x, settings))


@pytest.mark.slow
def test_derivatives_in_both_modes_and_of_higher_order():
    shape, settings = CASES["few channels, uneven padding"]
    x, weights = whole_numbers(*shape), weights_of(*CASES["few channels, uneven padding"])

    def loss(of):
        return lambda x: (jnp.square(of(x, settings)) * weights).sum()

    for derivative in (
        lambda f: jax.jvp(f, (x,), (jnp.cos(x),)),
        lambda f: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),)),
        lambda f: jax.grad(lambda x: jnp.sin(jax.grad(f)(x)).sum())(x),
        lambda f: jax.vmap(jax.grad(f))(jnp.stack([x, -x])),
        lambda f: jax.grad(jax.checkpoint(f))(x),
    ):
        assert_close(derivative(loss(by_handler)), derivative(loss(reference)))


@pytest.mark.slow
def test_jax_computes_on_several_devices_and_in_exported_programs():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    settings = PoolSettings(3, 2, ((1, 1), (1, 1)), (6, 6))
    x, weights = whole_numbers(8, 6, 6, 4), weights_of((8, 6, 6, 4), settings)
    expected = gradient(reference, settings)(x, weights)
    sharded = jax.device_put((x, weights), NamedSharding(mesh, P("data")))
    found, calls = call_and_count(gradient(by_handler, settings), *sharded)
    assert calls == 0
    assert found.sharding.spec[0] == "data"
    assert_close(found, expected)
    exported = export.export(jax.jit(gradient(by_handler, settings)))(x, weights)
    assert POOL_TARGET not in exported.mlir_module()
    assert_close(exported.call(x, weights), expected)


def test_an_invalid_call_raises_and_the_next_call_is_correct():
    x, numbers = whole_numbers(2, 6, 6, 4), np.asarray([2, 2, 0, 0])
    y = jax.ShapeDtypeStruct((2, 3, 3, 4), jnp.float32)
    call = jax.ffi.ffi_call(POOL_TARGET, [y, y.update(dtype=jnp.uint8)])
    assert_refused(
        {
            "shapes do not match": lambda: call(x[:1], settings=numbers),
            "types do not match": lambda: call(x.astype(jnp.bfloat16), settings=numbers),
            "expected 4 int64 settings": lambda: call(x, settings=numbers[:3]),
            "unexpected number of operands, results or attributes of a pool": lambda: call(x, x, x, settings=numbers),
        }
    )
    expected = _max_pool_by_jax(x, settings=PoolSettings(2, 2, ((0, 0), (0, 0)), (6, 6)))
    assert_close(tuple(call(x, settings=numbers)), expected)

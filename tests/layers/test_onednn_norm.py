"""Batch norm by the handler, against its definition in float64 and jax.numpy's form, and under JAX's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import assert_close, assert_refused, library, needs_onednn, normal, use_xla
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.layers.batch_norm import _backward_by_jax, _forward_by_jax, normalized_by_batch
from jaxcnn.layers.onednn import NormSettings, build, self_test
from jaxcnn.layers.onednn.library import NORM_TARGET, Library

pytestmark = needs_onednn
BOUNDS = {"none": (-np.inf, np.inf), "relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
# Few channels, so that several rows form one; an odd number of rows; fewer rows than threads; many channels
SHAPES = [(4, 5, 6, 3), (8, 4, 4, 16), (3, 7, 7, 10), (1, 9), (5, 1300)]
OF_SEVERAL_BLOCKS = [(40, 16, 16, 24), (2, 33, 31, 64)]


def settings(bounds="none"):
    return NormSettings(1e-3, *BOUNDS[bounds])


def loss(norm, x, scale, bias, **options):
    """Returns a loss that depends on all three results."""
    y, mean, var = norm(x, scale, bias, **options)
    return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum() + mean.sum() + 3 * jnp.square(var).sum()


def by_handler(bounds="none"):
    return lambda x, scale, bias: loss(lambda *a: normalized_by_batch(*a, settings(bounds)), x, scale, bias)


def reference(bounds="none"):
    """Returns the loss of jax.numpy's form, which JAX differentiates itself."""
    return lambda x, scale, bias: loss(_forward_by_jax, x, scale, bias, settings=settings(bounds))


def operands(*shape):
    return 1 + normal(0, *shape), 1 + normal(1, shape[-1]), normal(2, shape[-1])


def call_and_count(function, *arguments):
    """Compiles and calls a function; returns its result and the number of norms that the handler computed."""
    compiled = jax.jit(function).lower(*arguments).compile()
    before = library().counters().norms
    return jax.block_until_ready(compiled(*arguments)), library().counters().norms - before


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_results_equal_the_definition(shape, bounds):
    x, scale, bias, *gradients = self_test.norm_operands(np.random.default_rng(0), shape)
    mean, var, y, *found = (np.full_like(array, np.nan) for array in (scale, scale, x, x, scale, scale))
    assert library().run_norm(settings(bounds), [x, scale, bias, mean, var, y]) == 0
    assert library().run_norm(settings(bounds), [x, scale, bias, mean, var, y, *gradients, *found]) == 0
    expected = self_test.norm_by_definition(x, scale, bias, *gradients, settings=settings(bounds))
    for actual, desired in zip((y, mean, var, *found), (*expected[0], *expected[1]), strict=True):
        np.testing.assert_allclose(actual.reshape(desired.shape), desired, rtol=0, atol=2e-5 * np.abs(desired).max())


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("shape", OF_SEVERAL_BLOCKS, ids=str)
def test_gradients_equal_those_that_jax_derives(shape, bounds):
    arguments = operands(*shape)
    found, calls = call_and_count(jax.value_and_grad(by_handler(bounds), (0, 1, 2)), *arguments)
    assert calls == 2, "forward and backward"
    assert_close(found, jax.jit(jax.value_and_grad(reference(bounds), (0, 1, 2)))(*arguments), 2e-5)


def test_gradient_is_deterministic():
    arguments = operands(40, 16, 16, 24)
    gradient = jax.jit(jax.grad(by_handler("relu"), (0, 1, 2)))
    first = gradient(*arguments)
    for _ in range(20):
        jax.tree.map(np.testing.assert_array_equal, gradient(*arguments), first)


def test_statistics_are_exact_with_a_large_mean_or_an_outlier():
    x = np.float32(np.random.default_rng(0).normal(size=(50_000, 8)))
    x[:, :4] += 3000
    x[0, 4:] = 1e4
    _, mean, var = normalized_by_batch(x, jnp.ones(8), jnp.zeros(8), settings())
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, x.astype(np.float64).var(0), rtol=1e-5)


def test_nan_is_not_clipped():
    x = normal(0, 4, 4).at[1, 2].set(jnp.nan)
    y, *_ = normalized_by_batch(x, jnp.ones(4), jnp.zeros(4), settings("relu6"))
    np.testing.assert_array_equal(np.isnan(y), [[False, False, True, False]] * 4)


@pytest.mark.slow
def test_derivatives_of_higher_order():
    """Derivatives of the gradient, in forward and reverse mode, come from jax.numpy's form."""
    arguments = operands(3, 2, 4)

    def sharpness(of):
        return lambda *a: sum(jnp.square(g).sum() for g in jax.grad(of, (0, 1, 2))(*a))

    assert_close(
        jax.grad(sharpness(by_handler()), (0, 1, 2))(*arguments), jax.grad(sharpness(reference()), (0, 1, 2))(*arguments), 1e-4
    )
    found, expected = (jax.jvp(jax.grad(of), arguments, arguments) for of in (by_handler(), reference()))
    assert_close(found, expected, 1e-4)


@pytest.mark.slow
def test_vmap_scan_and_remat():
    x, scale, bias = normal(0, 3, 4, 5, 8), 1 + normal(1, 3, 8), normal(2, 8)
    found, expected = (
        jax.vmap(jax.grad(of("relu"), (0, 1, 2)), (0, 0, None))(x, scale, bias) for of in (by_handler, reference)
    )
    assert_close(found, expected, 2e-5)

    def deep(of):
        def scanned(x, scale, bias):
            return jax.lax.scan(lambda total, x: (total + jax.checkpoint(of("relu"))(x, scale, bias), None), 0.0, x)[0]

        return jax.jit(jax.grad(scanned, (0, 1, 2)))

    assert_close(deep(by_handler)(x, scale[0], bias), deep(reference)(x, scale[0], bias), 2e-5)


def test_jax_computes_on_several_devices_and_in_exported_programs():
    """Statistics of a sharded batch are sums over devices, and an exported program may run without the handler."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    arguments = operands(16, 3, 3, 4)
    expected = jax.jit(jax.grad(reference("relu"), (0, 1, 2)))(*arguments)
    sharded = jax.device_put(arguments[0], NamedSharding(mesh, P("data")))
    found, calls = call_and_count(
        jax.grad(by_handler("relu"), (0, 1, 2)), sharded, *jax.device_put(arguments[1:], NamedSharding(mesh, P()))
    )
    assert calls == 0
    assert found[0].sharding.spec[0] == "data"
    assert_close(found, expected, 2e-5)

    exported = export.export(jax.jit(jax.grad(by_handler("relu"))))(*arguments)
    assert NORM_TARGET not in exported.mlir_module()
    assert_close(exported.call(*arguments), expected[0], 2e-5)

    def on_each(x, scale, bias):
        return jax.shard_map(
            lambda x: normalized_by_batch(x, scale, bias, settings())[0], mesh=mesh, in_specs=P("data"), out_specs=P("data")
        )(x)

    by_device = [_forward_by_jax(part, *arguments[1:], settings=settings())[0] for part in np.split(arguments[0], 8)]
    assert_close(jax.jit(on_each)(sharded, *arguments[1:]), np.concatenate(by_device), 2e-5)


def test_jax_computes_other_dtypes_and_if_xla_is_chosen(monkeypatch):
    x, scale, bias = operands(4, 3, 8)
    assert call_and_count(jax.grad(by_handler()), x.astype(jnp.bfloat16), scale, bias)[1] == 0
    use_xla(monkeypatch)
    assert call_and_count(jax.grad(by_handler()), x, scale, bias)[1] == 0


def test_an_invalid_call_raises_and_the_next_call_is_correct():
    x, scale, bias = operands(2, 6, 4)
    call = jax.ffi.ffi_call(NORM_TARGET, [jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in (x, scale, scale)])
    numbers = np.asarray([1e-3, 0, 6], np.float32)
    assert_refused(
        {
            "do not match": lambda: call(x, scale[:2], bias, settings=numbers),
            "types do not match": lambda: call(x.astype(jnp.bfloat16), scale, bias, settings=numbers),
            "unexpected settings": lambda: call(x, scale, bias, settings=numbers[:2]),
            "expected 3 or 8 operands": lambda: call(x, scale, settings=numbers),
        }
    )
    expected = _forward_by_jax(x, scale, bias, settings=NormSettings(1e-3, 0, 6))
    assert_close(tuple(call(x, scale, bias, settings=numbers)), expected, 2e-5)


def test_gradient_of_jax_numpys_form_equals_the_definition():
    operands = self_test.norm_operands(np.random.default_rng(0), (6, 5, 3))
    (_, mean, var), expected = self_test.norm_by_definition(*operands, settings=settings("relu"))
    statistics = (mean.astype(np.float32), var.astype(np.float32))
    found = _backward_by_jax(*operands[:3], *statistics, *operands[3:], settings=settings("relu"))
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.reshape(actual, desired.shape), desired, rtol=0, atol=2e-5 * np.abs(desired).max())


def test_self_test_notices_wrong_results(monkeypatch):
    loaded, correct = library(), Library.run_norm  # loaded first, because the choice is cached

    def wrong_by_a_hundredth(self, settings, arrays):
        status = correct(self, settings, arrays)
        arrays[-1][:] *= 1.01
        return status

    monkeypatch.setattr(Library, "run_norm", wrong_by_a_hundredth)
    with pytest.raises(build.Unavailable, match=r"the self-test failed: batch norm of \(2, 9, 5, 3\) is off by 0.01"):
        self_test.check(loaded)

"""What the operations become: shared out among devices, for other platforms, exported, compiled ahead of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import CHEAP, assert_close, done_by, needs_onednn, normal, ours, xlas
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

pytestmark = needs_onednn


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def gradients(convolution):
    """Of a loss of two layers: every operation is in it."""

    def loss(x, first, second):
        return jnp.square(convolution(jnp.tanh(convolution(x, first)), second)).mean()

    return jax.grad(loss, (0, 1, 2))


def operands(images=16):
    return normal(0, images, 6, 6, 8), normal(1, 3, 3, 8, 8), normal(2, 3, 3, 8, 8)


def test_each_device_computes_its_own_images_only(mesh):
    x, first, second = operands()
    expected = jax.jit(gradients(xlas()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, done = done_by(gradients(ours()), x, first, second)
    assert done == [(16, 32), (16, 32), (16, 32)], "8 devices, 2 layers; 16 images in each layer, not 8 times 16"
    assert found[0].sharding.spec[0] == "data", "the gradient of the images is shared out as they are"
    assert_close(found, expected, 4e-6)


def test_as_the_trainer_compiles_it(mesh):
    """The batch arrives sharded along its second axis, parameters replicated and so are their gradients; one image a device."""
    x, first, second = operands(8)
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))

    def step(parameters, batches):
        return gradients(ours())(batches[0], *parameters)[1:]

    compiled = (
        jax.jit(step, in_shardings=(replicated, sharded), out_shardings=replicated)
        .lower((first, second), x[None])
        .compile(compiler_options=CHEAP)
    )
    assert "all-gather" not in compiled.as_text()
    assert_close(compiled((first, second), x[None]), jax.jit(gradients(xlas()))(x, first, second)[1:], 4e-6)


def test_seeds_trained_at_once_on_their_own_devices(mesh):
    """Each device trains one of 8 seeds, all on the same images."""
    x, kernels = normal(0, 2, 6, 6, 8), normal(1, 8, 3, 3, 8, 8)

    def both(convolution):
        return jax.vmap(jax.grad(lambda kernel, x: jnp.square(convolution(x, kernel)).mean()), (0, None))

    expected = jax.jit(both(xlas()))(kernels, x)
    kernels = jax.device_put(kernels, NamedSharding(mesh, P("data")))
    found, done = done_by(both(ours()), kernels, jax.device_put(x, NamedSharding(mesh, P())))
    assert done == [(8, 16), (0, 0), (8, 16)]
    assert_close(found, expected)


def test_batch_that_does_not_divide_is_right(mesh):
    x, first, second = operands(12)

    def both(convolution):
        # 16 images are shared out, 12 of them cannot be
        return lambda x, *kernels: gradients(convolution)(x[:12], *kernels)[1:]

    expected = jax.jit(both(xlas()))(x, first, second)
    x = jax.device_put(jnp.concatenate([x, x[:4]]), NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    assert_close(done_by(both(ours()), x, first, second)[0], expected, 4e-6)


def test_model_sharded_otherwise_is_right(mesh):
    """Kernels and channels that are shared out are gathered first."""
    x, first, second = operands()
    expected = jax.jit(gradients(xlas()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P(None, None, None, "data")))
    first = jax.device_put(first, NamedSharding(mesh, P(None, None, None, "data")))
    second = jax.device_put(second, NamedSharding(mesh, P(None, None, "data")))
    assert_close(done_by(gradients(ours()), x, first, second)[0], expected, 4e-6)


def test_two_axes_share_out_the_images():
    mesh = jax.make_mesh((4, 2), ("data", "more"), axis_types=(AxisType.Auto,) * 2)
    x, first, second = operands()
    expected = jax.jit(gradients(xlas()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P(("data", "more"))))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, done = done_by(gradients(ours()), x, first, second)
    assert done == [(16, 32)] * 3
    assert_close(found, expected, 4e-6)


@pytest.mark.parametrize("checked", [True, False])
def test_shard_map(mesh, checked):
    x, first, second = operands()

    def both(convolution):
        def loss(x, first, second):
            return jax.lax.pmean(jnp.square(convolution(jnp.tanh(convolution(x, first)), second)).mean(), "data")

        # gradients of what is replicated are summed by shard_map where it checks, else by hand
        def share(x, first, second):
            found = jax.grad(loss, (1, 2))(x, first, second)
            return found if checked else jax.lax.pmean(found, "data")

        specs = {"mesh": mesh, "in_specs": (P("data"), P(), P()), "out_specs": P(), "check_vma": checked}
        return jax.shard_map(share, **specs)

    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, done = done_by(both(ours()), x, first, second)
    assert done == [(16, 32), (8, 16), (16, 32)]
    assert_close(found, jax.jit(both(xlas()))(x, first, second), 4e-6)


def test_explicit_axes_are_xlas():
    """Where shardings are part of the types, JAX's own convolution follows its own rules."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    x, first, second = operands()
    expected = jax.jit(gradients(xlas()))(x, first, second)
    with jax.set_mesh(mesh):
        x = jax.device_put(x, NamedSharding(mesh, P("data")))
        first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
        found, done = done_by(gradients(ours()), x, first, second)
    assert done == [(0, 0)] * 3
    assert_close(jax.device_get(found), jax.device_get(expected), 4e-6)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_program_for_another_platform_is_that_of_lax(platform):
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in operands()]

    def program(convolution):
        def function(*arrays):
            return gradients(convolution)(*arrays)

        return jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()

    assert "custom_call" not in program(ours())
    assert program(ours()).count("stablehlo.convolution") == program(xlas()).count("stablehlo.convolution") == 6


def test_exported_program_needs_no_onednn():
    x, first, second = operands()
    exported = export.export(jax.jit(gradients(ours())))(x, first, second)
    assert "custom_call" not in exported.mlir_module()
    for found, expected in zip(exported.call(x, first, second), jax.jit(gradients(xlas()))(x, first, second), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_exported_with_any_batch_size():
    x, kernel, _ = operands()
    (batch,) = export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct((batch, 6, 6, 8), jnp.float32), jax.ShapeDtypeStruct(kernel.shape, jnp.float32))
    exported = export.export(jax.jit(ours()))(*shapes)
    np.testing.assert_array_equal(exported.call(x[:5], kernel), jax.jit(xlas())(x[:5], kernel))


def test_compiled_program_can_be_stored(tmp_path):
    """JAX's cache on disk of compiled programs holds it, and what is found there computes the same."""
    from jax.experimental import serialize_executable

    arrays = operands()
    compiled = jax.jit(gradients(ours())).lower(*arrays).compile()
    stored = serialize_executable.serialize(compiled)
    restored = serialize_executable.deserialize_and_load(*stored, execution_devices=jax.devices()[:1])
    for one, other in zip(restored(*arrays), compiled(*arrays), strict=True):
        np.testing.assert_array_equal(one, other)


def test_programs_that_differ_in_padding_alone_differ_in_the_cache(mesh):
    """JAX's cache of programs leaves out what is inside custom_partitioning."""
    x, kernel, _ = operands()
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    kernel = jax.device_put(kernel, NamedSharding(mesh, P()))
    texts = []
    for padding in (((0, 2), (1, 1)), ((1, 1), (1, 1))):
        text = jax.jit(ours(padding=padding)).lower(x, kernel).as_text()
        assert "CustomSPMDPartitioning" in text
        texts.append("\n".join(line for line in text.splitlines() if "CustomSPMDPartitioning" not in line))
    assert texts[0] != texts[1]

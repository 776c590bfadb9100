"""Compiled convolutions: on several devices, for other platforms, exported, compiled ahead of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.onednn_cases import CHEAP, assert_close, call_and_count, jax_convolution, needs_onednn, network_convolution, normal
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

pytestmark = needs_onednn


@pytest.fixture(scope="module")
def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def gradients(convolution):
    """Returns the gradients of a loss of two layers, which need all three operations."""

    def loss(x, first, second):
        return jnp.square(convolution(jnp.tanh(convolution(x, first)), second)).mean()

    return jax.grad(loss, (0, 1, 2))


def operands(images=16):
    return normal(0, images, 6, 6, 8), normal(1, 3, 3, 8, 8), normal(2, 3, 3, 8, 8)


def test_each_device_computes_its_own_images_only(mesh):
    x, first, second = operands()
    expected = jax.jit(gradients(jax_convolution()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, counts = call_and_count(gradients(network_convolution()), x, first, second)
    assert counts == [(16, 32), (16, 32), (16, 32)], "8 devices, 2 layers; 16 images in each layer, not 8 times 16"
    assert found[0].sharding.spec[0] == "data", "the gradient of the images is sharded like the images"
    assert_close(found, expected, 4e-6)


def test_as_the_trainer_compiles_it(mesh):
    """The batch is sharded along its second axis, with one image per device; parameters and their gradients are replicated."""
    x, first, second = operands(8)
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "data"))

    def step(parameters, batches):
        return gradients(network_convolution())(batches[0], *parameters)[1:]

    compiled = (
        jax.jit(step, in_shardings=(replicated, sharded), out_shardings=replicated)
        .lower((first, second), x[None])
        .compile(compiler_options=CHEAP)
    )
    assert "all-gather" not in compiled.as_text()
    assert_close(compiled((first, second), x[None]), jax.jit(gradients(jax_convolution()))(x, first, second)[1:], 4e-6)


def test_seeds_trained_at_once_on_their_own_devices(mesh):
    """Each device trains one of 8 seeds on the same images."""
    x, kernels = normal(0, 2, 6, 6, 8), normal(1, 8, 3, 3, 8, 8)

    def derivatives(convolution):
        return jax.vmap(jax.grad(lambda kernel, x: jnp.square(convolution(x, kernel)).mean()), (0, None))

    expected = jax.jit(derivatives(jax_convolution()))(kernels, x)
    kernels = jax.device_put(kernels, NamedSharding(mesh, P("data")))
    found, counts = call_and_count(derivatives(network_convolution()), kernels, jax.device_put(x, NamedSharding(mesh, P())))
    assert counts == [(8, 16), (0, 0), (8, 16)]
    assert_close(found, expected)


def test_batch_that_does_not_divide_is_right(mesh):
    x, first, second = operands(12)

    def derivatives(convolution):
        # 16 images are sharded over 8 devices; 12 of them cannot be divided evenly
        return lambda x, *kernels: gradients(convolution)(x[:12], *kernels)[1:]

    expected = jax.jit(derivatives(jax_convolution()))(x, first, second)
    x = jax.device_put(jnp.concatenate([x, x[:4]]), NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    assert_close(call_and_count(derivatives(network_convolution()), x, first, second)[0], expected, 4e-6)


def test_model_sharded_otherwise_is_right(mesh):
    """Kernels and channels that are sharded are gathered first."""
    x, first, second = operands()
    expected = jax.jit(gradients(jax_convolution()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P(None, None, None, "data")))
    first = jax.device_put(first, NamedSharding(mesh, P(None, None, None, "data")))
    second = jax.device_put(second, NamedSharding(mesh, P(None, None, "data")))
    assert_close(call_and_count(gradients(network_convolution()), x, first, second)[0], expected, 4e-6)


def test_images_sharded_over_two_axes_of_the_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "more"), axis_types=(AxisType.Auto,) * 2)
    x, first, second = operands()
    expected = jax.jit(gradients(jax_convolution()))(x, first, second)
    x = jax.device_put(x, NamedSharding(mesh, P(("data", "more"))))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, counts = call_and_count(gradients(network_convolution()), x, first, second)
    assert counts == [(16, 32)] * 3
    assert_close(found, expected, 4e-6)


@pytest.mark.parametrize("checked", [True, False])
def test_shard_map(mesh, checked):
    x, first, second = operands()

    def derivatives(convolution):
        def loss(x, first, second):
            return jax.lax.pmean(jnp.square(convolution(jnp.tanh(convolution(x, first)), second)).mean(), "data")

        # shard_map itself combines the gradients of replicated arrays only if check_vma is True
        def share(x, first, second):
            found = jax.grad(loss, (1, 2))(x, first, second)
            return found if checked else jax.lax.pmean(found, "data")

        specs = {"mesh": mesh, "in_specs": (P("data"), P(), P()), "out_specs": P(), "check_vma": checked}
        return jax.shard_map(share, **specs)

    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
    found, counts = call_and_count(derivatives(network_convolution()), x, first, second)
    assert counts == [(16, 32), (8, 16), (16, 32)]
    assert_close(found, jax.jit(derivatives(jax_convolution()))(x, first, second), 4e-6)


def test_xla_computes_if_the_mesh_has_explicit_axes():
    """If shardings are part of the types, JAX's own convolution applies its own rules."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    x, first, second = operands()
    expected = jax.jit(gradients(jax_convolution()))(x, first, second)
    with jax.set_mesh(mesh):
        x = jax.device_put(x, NamedSharding(mesh, P("data")))
        first, second = jax.device_put((first, second), NamedSharding(mesh, P()))
        found, counts = call_and_count(gradients(network_convolution()), x, first, second)
    assert counts == [(0, 0)] * 3
    assert_close(jax.device_get(found), jax.device_get(expected), 4e-6)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_program_for_another_platform_has_jaxs_convolution(platform):
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in operands()]

    def program(convolution):
        def function(*arrays):
            return gradients(convolution)(*arrays)

        return jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()

    assert "custom_call" not in program(network_convolution())
    assert (
        program(network_convolution()).count("stablehlo.convolution")
        == program(jax_convolution()).count("stablehlo.convolution")
        == 6
    )


def test_exported_program_needs_no_onednn():
    x, first, second = operands()
    exported = export.export(jax.jit(gradients(network_convolution())))(x, first, second)
    assert "custom_call" not in exported.mlir_module()
    for found, expected in zip(
        exported.call(x, first, second), jax.jit(gradients(jax_convolution()))(x, first, second), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_exported_with_any_batch_size():
    x, kernel, _ = operands()
    (batch,) = export.symbolic_shape("batch")
    shapes = (jax.ShapeDtypeStruct((batch, 6, 6, 8), jnp.float32), jax.ShapeDtypeStruct(kernel.shape, jnp.float32))
    exported = export.export(jax.jit(network_convolution()))(*shapes)
    np.testing.assert_array_equal(exported.call(x[:5], kernel), jax.jit(jax_convolution())(x[:5], kernel))


def test_compiled_program_can_be_stored(tmp_path):
    """A program that is stored, as in JAX's cache on disk, and loaded again computes the same numbers."""
    from jax.experimental import serialize_executable

    arrays = operands()
    compiled = jax.jit(gradients(network_convolution())).lower(*arrays).compile()
    stored = serialize_executable.serialize(compiled)
    restored = serialize_executable.deserialize_and_load(*stored, execution_devices=jax.devices()[:1])
    for actual, desired in zip(restored(*arrays), compiled(*arrays), strict=True):
        np.testing.assert_array_equal(actual, desired)


def test_programs_that_differ_in_padding_alone_differ_in_the_cache(mesh):
    """The key of JAX's cache of compiled programs omits the content of custom_partitioning."""
    x, kernel, _ = operands()
    x = jax.device_put(x, NamedSharding(mesh, P("data")))
    kernel = jax.device_put(kernel, NamedSharding(mesh, P()))
    texts = []
    for padding in (((0, 2), (1, 1)), ((1, 1), (1, 1))):
        text = jax.jit(network_convolution(padding=padding)).lower(x, kernel).as_text()
        assert "CustomSPMDPartitioning" in text
        texts.append("\n".join(line for line in text.splitlines() if "CustomSPMDPartitioning" not in line))
    assert texts[0] != texts[1]

"""Lowers the convolution and its gradients: to a call of the handler in programs for CPUs, to XLA's convolution in others."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.layers.onednn.jax_private import LoweringRuleContext, lower_fun, placement, register_lowering, require_devices
from jaxcnn.layers.onednn.library import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, KINDS, TARGET
from jaxcnn.layers.onednn.primitives import PRIMITIVES, ConvSettings, reference, result_shape

Function = Callable[[jax.Array, jax.Array], jax.Array]
# Names of the axes of both operands and the result. Only "n", the images, and "v", an axis of `jax.vmap` in front of them, can
# be partitioned among devices.
_AXES = {
    FORWARD: ("n h w c", "a b i o", "n p q f"),
    INPUT_GRADIENT: ("n p q f", "a b i o", "n h w c"),
    KERNEL_GRADIENT: ("n h w c", "n p q f", "a b i o"),
}


def by_xla(kind: int, a: jax.Array, b: jax.Array, *, settings: ConvSettings) -> jax.Array:
    """Computes the operation by jax.lax."""
    convolution = functools.partial(reference, kind, settings)
    axes = tuple(0 if array.ndim == 5 else None for array in (a, b))
    return convolution(a, b) if axes == (None, None) else jax.vmap(convolution, axes)(a, b)


def by_onednn(kind: int, a: jax.Array, b: jax.Array, *, settings: ConvSettings) -> jax.Array:
    """Computes the operation by the handler, on one device."""
    s = settings
    result = jax.ShapeDtypeStruct(result_shape(kind, s, a.shape, b.shape), s.compute)
    numbers = [kind, *s.strides, *s.padding[0], *s.padding[1], *s.dilation, s.groups]
    call = jax.ffi.ffi_call(TARGET, result)
    return call(a.astype(s.compute), b.astype(s.compute), settings=np.asarray(numbers, np.int64)).astype(a.dtype)


def partitioned(kind: int, a: Any, b: Any, settings: ConvSettings) -> Function:
    """Returns the operation on several devices, each of which calls the handler for its own shard of the images.

    Gradients of the kernel are summed over the devices. `a` and `b` are the operands' abstract values.
    """
    compute = functools.partial(by_onednn, kind, settings=settings)
    stacked = (a.ndim == 5, b.ndim == 5, a.ndim == 5 or b.ndim == 5)
    axes = [["v"] * stack + names.split() for stack, names in zip(stacked, _AXES[kind], strict=True)]

    def partition(mesh: Mesh, operands: Sequence[Any], result: Any) -> tuple:
        mesh_axes = {name: _mesh_axes(mesh, name, axes, (*operands, result)) for name in ("v", "n")}
        if set(mesh_axes["v"]) & set(mesh_axes["n"]):
            mesh_axes["n"] = ()
        *operand_shardings, result_sharding = (
            NamedSharding(mesh, P(*(mesh_axes.get(name) or None for name in names))) for names in axes
        )

        def compute_shard(a, b):
            shard = compute(a, b)
            return jax.lax.psum(shard, mesh_axes["n"]) if kind == KERNEL_GRADIENT and mesh_axes["n"] else shard

        return mesh, compute_shard, result_sharding, tuple(operand_shardings)

    # The key of JAX's cache of compiled programs omits the content of custom_partitioning, but has the names of functions.
    name = "_".join(["convolution", *(c if c.isalnum() else "_" for c in repr((kind, settings[:-1])))])
    function = custom_partitioning(lambda a, b: compute(a, b))
    function.def_partition(
        partition,
        sharding_rule=f"{' '.join(axes[0])}, {' '.join(axes[1])} -> {' '.join(axes[2])}",
        need_replication_factors=tuple(dict.fromkeys(name for names in axes for name in names if name not in ("v", "n"))),
        reduction_factors=("n",) if kind == KERNEL_GRADIENT else (),
    )
    named = lambda a, b: function(a, b)  # noqa: E731
    named.__name__ = name
    return jax.jit(named)


def _mesh_axes(mesh: Mesh, name: str, axes: Sequence[Sequence[str]], arrays: Sequence[Any]) -> tuple[str, ...]:
    """Returns the axes of the mesh over which the first partitioned array divides its axis `name`; () if not evenly."""
    for names, array in zip(axes, arrays, strict=True):
        spec = array.sharding.spec
        axis = names.index(name) if name in names else len(spec)
        if axis < len(spec) and spec[axis] is not None:
            mesh_axes = spec[axis] if isinstance(spec[axis], tuple) else (spec[axis],)
            if array.shape[axis] % np.prod([mesh.shape[mesh_axis] for mesh_axis in mesh_axes]) == 0:
                return mesh_axes
    return ()


def _lower_on_cpu(kind: int, context: LoweringRuleContext, *operands: Any, settings: ConvSettings) -> Any:
    where = placement(context)
    if where in ("one device", "shard_map"):
        function: Function = functools.partial(by_onednn, kind, settings=settings)
    elif where == "mesh":
        function = partitioned(kind, context.avals_in[0], context.avals_in[1], settings)
    else:  # the handler is missing where an exported program runs, and the others cannot be partitioned here
        function = functools.partial(by_xla, kind, settings=settings)
    return lower_fun(function, multiple_results=False)(context, *operands)


for _kind in KINDS:
    require_devices(PRIMITIVES[_kind])
    register_lowering(PRIMITIVES[_kind], lower_fun(functools.partial(by_xla, _kind), multiple_results=False))
    register_lowering(PRIMITIVES[_kind], functools.partial(_lower_on_cpu, _kind), platform="cpu")

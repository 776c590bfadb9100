"""What the operations become when a program is compiled: a call of the handler on CPUs, XLA's convolution elsewhere."""

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
# Names of the axes of both operands and the result. Only "n" (and "v", in front) may be shared out among devices.
_AXES = {
    FORWARD: ("n h w c", "a b i o", "n p q f"),
    INPUT_GRADIENT: ("n p q f", "a b i o", "n h w c"),
    KERNEL_GRADIENT: ("n h w c", "n p q f", "a b i o"),
}


def by_xla(kind: int, a: jax.Array, b: jax.Array, *, settings: ConvSettings) -> jax.Array:
    """By jax.lax."""
    one = functools.partial(reference, kind, settings)
    axes = tuple(0 if array.ndim == 5 else None for array in (a, b))
    return one(a, b) if axes == (None, None) else jax.vmap(one, axes)(a, b)


def by_onednn(kind: int, a: jax.Array, b: jax.Array, *, settings: ConvSettings) -> jax.Array:
    """By the handler, on the device where this runs."""
    s = settings
    result = jax.ShapeDtypeStruct(result_shape(kind, s, a.shape, b.shape), s.compute)
    numbers = [kind, *s.strides, *s.padding[0], *s.padding[1], *s.dilation, s.groups]
    call = jax.ffi.ffi_call(TARGET, result)
    return call(a.astype(s.compute), b.astype(s.compute), settings=np.asarray(numbers, np.int64)).astype(a.dtype)


def shared_out(kind: int, a: Any, b: Any, settings: ConvSettings) -> Function:
    """By the handler on several devices, each on its share of the images; gradients of the kernel are summed over them."""
    compute = functools.partial(by_onednn, kind, settings=settings)
    stacked = (a.ndim == 5, b.ndim == 5, a.ndim == 5 or b.ndim == 5)
    axes = [["v"] * stack + names.split() for stack, names in zip(stacked, _AXES[kind], strict=True)]

    def partition(mesh: Mesh, operands: Sequence[Any], result: Any) -> tuple:
        places = {name: _places(mesh, name, axes, (*operands, result)) for name in ("v", "n")}
        if set(places["v"]) & set(places["n"]):
            places["n"] = ()
        *given, out = (NamedSharding(mesh, P(*(places.get(name) or None for name in names))) for names in axes)

        def share(a, b):
            part = compute(a, b)
            return jax.lax.psum(part, places["n"]) if kind == KERNEL_GRADIENT and places["n"] else part

        return mesh, share, out, tuple(given)

    # XLA's cache of programs takes no note of what is inside custom_partitioning, but of the names of functions
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


def _places(mesh: Mesh, name: str, axes: Sequence[Sequence[str]], arrays: Sequence[Any]) -> tuple[str, ...]:
    """The axes of the mesh that share out `name`, by the first array that is; none where it can't be shared evenly."""
    for names, array in zip(axes, arrays, strict=True):
        spec = array.sharding.spec
        place = names.index(name) if name in names else len(spec)
        if place < len(spec) and spec[place] is not None:
            found = spec[place] if isinstance(spec[place], tuple) else (spec[place],)
            if array.shape[place] % np.prod([mesh.shape[axis] for axis in found]) == 0:
                return found
    return ()


def _lower_on_cpu(kind: int, context: LoweringRuleContext, *operands: Any, settings: ConvSettings) -> Any:
    where = placement(context)
    if where in ("one device", "shard_map"):
        function: Function = functools.partial(by_onednn, kind, settings=settings)
    elif where == "mesh":
        function = shared_out(kind, context.avals_in[0], context.avals_in[1], settings)
    else:
        function = functools.partial(by_xla, kind, settings=settings)
    return lower_fun(function, multiple_results=False)(context, *operands)


for _kind in KINDS:
    require_devices(PRIMITIVES[_kind])
    register_lowering(PRIMITIVES[_kind], lower_fun(functools.partial(by_xla, _kind), multiple_results=False))
    register_lowering(PRIMITIVES[_kind], functools.partial(_lower_on_cpu, _kind), platform="cpu")

"""The details of JAX that have no documented, stable interface, in one place.

No other file of this project imports from `jax._src`, `jax.extend` or `jax.interpreters`. The names and attributes below were
tested with jax and jaxlib 0.10.2 and may change with any release, which is why pyproject.toml requires jax < 0.11.
Run the tests in tests/layers/test_onednn_*.py before the bound is raised.

In addition, primitives.py, operations.py and pools.py use `update`, `sharding` and `to_tangent_aval` of abstract values (the
`ShapedArray` that `jax.typeof` returns), and lowering.py uses `jax.experimental.custom_partitioning`.
"""

from typing import Any, Literal

import jax
from jax.extend.core import Primitive
from jax.extend.random import define_prng_impl, threefry_prng_impl
from jax.interpreters.ad import Zero, defbilinear, instantiate_zeros, primitive_jvps, primitive_transposes
from jax.interpreters.batching import primitive_batchers
from jax.interpreters.mlir import LoweringRuleContext, SPMDAxisContext, lower_fun, register_lowering

__all__ = [
    "LoweringRuleContext",  # the program in which an operation is lowered; its attributes are read by `placement`
    "Primitive",  # an operation: makes those of the handler visible to jit, vmap and differentiation
    "Zero",  # a tangent that is known to be zero, of the integer positions that a maximum pool returns
    "defbilinear",  # defines all derivatives of a convolution from its two transposes
    "define_prng_impl",  # random numbers that jax.random draws with the handler
    "instantiate_zeros",  # turns a Zero into an array of zeros
    "lower_fun",  # lowers an operation as a function of other operations
    "placement",
    "primitive_batchers",  # {operation: its rule for jax.vmap}
    "primitive_jvps",  # {operation: its rule for forward-mode differentiation}
    "primitive_transposes",  # {linear operation: its transposition rule}, for reverse-mode differentiation
    "register_lowering",  # what an operation becomes in a compiled program, per platform
    "require_devices",
    "threefry_prng_impl",  # JAX's default random numbers, which the handler reproduces and falls back to
    "varying_axes",
]

# JAX gives the devices and the mesh of a program to the lowering rules only if the program contains an operation of this set.
try:
    from jax._src.dispatch import prim_requires_devices_during_lowering as _requiring_devices
except ImportError:  # XLA then computes the convolutions of programs for several devices
    _requiring_devices = set()


def require_devices(primitive: Primitive) -> None:
    """Makes `placement` recognize the mesh of programs that contain this operation."""
    _requiring_devices.add(primitive)


Placement = Literal["exported", "one device", "mesh", "devices without a mesh", "shard_map", "partial shard_map"]


def placement(context: LoweringRuleContext) -> Placement:
    """Returns on which devices the operation that is being lowered will run.

    "exported" is a program of `jax.export`, which may run on another machine. "shard_map" means inside a `jax.shard_map` over
    all axes of the mesh, where each device runs the operation on its own shard, and "partial shard_map" over some of them.
    """
    module = context.module_context
    devices = module.axis_context
    if module.lowering_parameters.for_export:
        return "exported"
    if isinstance(devices, SPMDAxisContext):
        return "shard_map" if set(devices.manual_axes) == set(devices.mesh.axis_names) else "partial shard_map"
    if devices.num_devices == 1:
        return "one device"
    return "mesh" if devices.abstract_mesh is not None else "devices without a mesh"


def varying_axes(x: Any) -> frozenset[str]:
    """Returns the axes of the mesh along which the shards of `x` differ; empty outside `jax.shard_map`."""
    return jax.typeof(x).mat.varying

"""Defines operations of JAX that the handler computes in programs for one CPU, and jax.numpy in all others."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from jaxcnn.layers.onednn import decide
from jaxcnn.layers.onednn.jax_private import (
    LoweringRuleContext,
    Primitive,
    instantiate_zeros,
    lower_fun,
    placement,
    primitive_batchers,
    register_lowering,
    require_devices,
    varying_axes,
)

Arrays = Sequence[jax.Array]


class OperationSettings(Protocol):
    """The settings of an operation, hashable."""

    def to_array(self) -> np.ndarray:
        """Returns the settings as the handler receives them."""


def operation(name: str, target: str, by_jax: Callable[..., Arrays], results: Callable[..., Sequence[Any]]) -> Primitive:
    """Returns the operation `name`, which is computed by `target`, a function of the handler, or by `by_jax`.

    The caller registers its derivatives.

    Args:
      name: of the operation, in JAX's representation of programs.
      target: one of library.TARGETS; "" if the handler does not compute the operation.
      by_jax: (*operands, settings=) -> the results, by jax.numpy; also computes the operation under `jax.vmap`.
      results: (*operands, settings=) -> (shape, dtype) of each result, from the operands' abstract values.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    def abstract(*operands: Any, settings: OperationSettings) -> list[Any]:
        return [
            operands[0].update(shape=shape, dtype=jnp.dtype(dtype), weak_type=False)
            for shape, dtype in results(*operands, settings=settings)
        ]

    @functools.cache
    def compiled(settings: OperationSettings) -> Any:
        return jax.jit(functools.partial(primitive.bind, settings=settings))

    def batched(operands: Arrays, axes: Sequence[int | None], *, settings: OperationSettings) -> tuple[Arrays, Sequence[int]]:
        results = jax.vmap(functools.partial(by_jax, settings=settings), axes)(*operands)
        return results, [0] * len(results)

    def lowered_on_cpu(context: LoweringRuleContext, *operands: Any, settings: OperationSettings) -> Any:
        function = functools.partial(by_jax, settings=settings)
        if target and placement(context) == "one device":
            call = jax.ffi.ffi_call(target, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in context.avals_out])
            function = functools.partial(call, settings=settings.to_array())
        return lower_fun(function, multiple_results=True)(context, *operands)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(lambda *operands, settings: compiled(settings)(*operands))
    primitive_batchers[primitive] = batched
    require_devices(primitive)
    register_lowering(primitive, lower_fun(by_jax, multiple_results=True))
    register_lowering(primitive, lowered_on_cpu, platform="cpu")
    return primitive


def jvp_rule(by_jax: Callable[..., Arrays]) -> Callable[..., tuple[Arrays, Arrays]]:
    """Returns the rule of forward-mode differentiation that JAX derives from `by_jax`."""

    def rule(primals: Arrays, tangents: Sequence[Any], *, settings: OperationSettings) -> tuple[Arrays, Arrays]:
        function = functools.partial(by_jax, settings=settings)
        return jax.jvp(function, tuple(primals), tuple(map(instantiate_zeros, tangents)))

    return rule


def can_use_handler(x: jax.Array) -> bool:
    """Returns whether the handler supports x; when a program is compiled, `placement` decides whether it is used."""
    if jax.default_backend() != "cpu" or x.dtype != jnp.float32 or not all(isinstance(size, int) and size for size in x.shape):
        return False
    if varying_axes(x) or AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types:
        return False
    library = decide.choice().library
    return library is not None and library.supports_norms(x.shape[-1])

"""Operations of JAX that the handler computes in programs for one CPU, and jax.numpy in all others."""

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
    """What an operation's operands do not say; hashable."""

    def numbers(self) -> np.ndarray:
        """The same, as the handler is told."""


def operation(name: str, target: str, by_jax: Callable[..., Arrays], results: Callable[..., Sequence[Any]]) -> Primitive:
    """The handler's `target`, or `by_jax(*operands, settings=)` where there is none, as `name`; vmap batches it as `by_jax`.

    `results(*operands, settings=)` has shape and dtype of each. How it is differentiated is for the caller to say.
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
            function = functools.partial(call, settings=settings.numbers())
        return lower_fun(function, multiple_results=True)(context, *operands)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(lambda *operands, settings: compiled(settings)(*operands))
    primitive_batchers[primitive] = batched
    require_devices(primitive)
    register_lowering(primitive, lower_fun(by_jax, multiple_results=True))
    register_lowering(primitive, lowered_on_cpu, platform="cpu")
    return primitive


def differentiated_as(by_jax: Callable[..., Arrays]) -> Callable[..., tuple[Arrays, Arrays]]:
    """The rule of an operation whose derivative JAX shall find by itself."""

    def rule(primals: Arrays, tangents: Sequence[Any], *, settings: OperationSettings) -> tuple[Arrays, Arrays]:
        function = functools.partial(by_jax, settings=settings)
        return jax.jvp(function, tuple(primals), tuple(map(instantiate_zeros, tangents)))

    return rule


def for_handler(x: jax.Array) -> bool:
    """Whether the handler may see x at all; whether it does is decided when a program is compiled."""
    if jax.default_backend() != "cpu" or x.dtype != jnp.float32 or not all(isinstance(size, int) and size for size in x.shape):
        return False
    if varying_axes(x) or AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types:
        return False
    library = decide.choice().library
    return library is not None and library.has_threads(x.shape[-1])

"""Batch norm and its gradient as operations of JAX, by the handler in programs for one CPU, by jax.numpy in all others."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType

from jaxcnn.layers.onednn.decide import choice
from jaxcnn.layers.onednn.library import NORM_TARGET
from jaxcnn.layers.onednn.lowering import alone, told_the_devices

Arrays = Sequence[jax.Array]


class NormSettings(NamedTuple):
    """What the operands do not say: the result is kept within bounds, which is ReLU or ReLU6 where they are finite."""

    epsilon: float
    low: float = -math.inf
    high: float = math.inf

    def bounded(self, v: jax.Array) -> jax.Array:
        """v, within the bounds."""
        v = v if self.low == -math.inf else jnp.maximum(v, self.low)
        return v if self.high == math.inf else jnp.minimum(v, self.high)

    def passed(self, v: jax.Array, gradient: jax.Array) -> jax.Array:
        """The gradient of v by that of what `bounded` makes of it."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return gradient
        return jnp.where((v > self.low) & (v < self.high), gradient, jnp.zeros_like(gradient))


Norm = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


def norm_operation(name: str, by_jax: Norm) -> Norm:
    """`by_jax` as an operation: a batch norm (x, scale, bias, *, settings) -> (y, mean, var), or its gradient.

    Results are like x, scale and scale. It is differentiated, and batched by vmap, as `by_jax` is.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_abstract_eval(lambda x, scale, *_, settings: [a.update(weak_type=False) for a in (x, scale, scale)])

    @functools.cache
    def compiled(settings: NormSettings) -> Any:
        return jax.jit(functools.partial(primitive.bind, settings=settings))

    def differentiated(primals: Arrays, tangents: Sequence[Any], *, settings: NormSettings) -> tuple[Arrays, Arrays]:
        function = functools.partial(by_jax, settings=settings)
        return jax.jvp(function, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))

    def batched(operands: Arrays, axes: Sequence[int | None], *, settings: NormSettings) -> tuple[Arrays, Sequence[int]]:
        results = jax.vmap(functools.partial(by_jax, settings=settings), axes)(*operands)
        return results, [0] * len(results)

    def lowered_on_cpu(context: mlir.LoweringRuleContext, *operands: Any, settings: NormSettings) -> Any:
        def by_handler(x: jax.Array, scale: jax.Array, *others: jax.Array) -> Any:
            results = [jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in (x, scale, scale)]
            call = jax.ffi.ffi_call(NORM_TARGET, results)
            return call(x, scale, *others, settings=np.asarray(settings, np.float32))

        function = by_handler if alone(context) else functools.partial(by_jax, settings=settings)
        return mlir.lower_fun(function, multiple_results=True)(context, *operands)

    primitive.def_impl(lambda *operands, settings: compiled(settings)(*operands))
    ad.primitive_jvps[primitive] = differentiated
    batching.primitive_batchers[primitive] = batched
    told_the_devices.add(primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(by_jax, multiple_results=True))
    mlir.register_lowering(primitive, lowered_on_cpu, platform="cpu")

    def operation(x: jax.Array, *others: jax.Array, settings: NormSettings) -> tuple[jax.Array, jax.Array, jax.Array]:
        return tuple((primitive.bind if _for_handler(x) else by_jax)(x, *others, settings=settings))

    return operation


def _for_handler(x: jax.Array) -> bool:
    if jax.default_backend() != "cpu" or x.dtype != jnp.float32 or not all(isinstance(size, int) and size for size in x.shape):
        return False
    if jax.typeof(x).mat.varying or AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types:
        return False
    library = choice().library
    return library is not None and library.normalizes(x.shape[-1])

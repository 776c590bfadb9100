"""Batch norm, layer norm and their gradients as operations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad

from jaxcnn.layers.onednn.operations import OperationSettings, differentiated_as, for_handler, operation


class NormSettings(NamedTuple):
    """What the operands do not say: the result is kept within bounds, which is ReLU or ReLU6 where they are finite."""

    epsilon: float
    low: float = -math.inf
    high: float = math.inf

    def numbers(self) -> np.ndarray:
        """As the handler is told."""
        return np.asarray(self, np.float32)

    def bounded(self, v: jax.Array) -> jax.Array:
        """v, within the bounds."""
        v = v if self.low == -math.inf else jnp.maximum(v, self.low)
        return v if self.high == math.inf else jnp.minimum(v, self.high)

    def passed(self, v: jax.Array, gradient: jax.Array) -> jax.Array:
        """The gradient of v by that of what `bounded` makes of it."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return gradient
        return jnp.where((v > self.low) & (v < self.high), gradient, jnp.zeros_like(gradient))


class LayerNormSettings(NamedTuple):
    """What the operands of a layer norm do not say."""

    epsilon: float

    def numbers(self) -> np.ndarray:
        """As the handler is told."""
        return np.asarray(self, np.float32)


Norm = Callable[..., Any]  # to a tuple of arrays


def norm_operation(name: str, target: str, by_jax: Norm, results: int) -> Norm:
    """`by_jax` as an operation: a norm of (x, scale, …, settings=) or its gradient.

    Its first result is like x, others like scale.
    """

    def like(x: Any, scale: Any, *others: Any, settings: OperationSettings) -> list[tuple]:
        return [(a.shape, a.dtype) for a in (x, *[scale] * (results - 1))]

    primitive = operation(name, target, by_jax, like)
    ad.primitive_jvps[primitive] = differentiated_as(by_jax)

    def norm(x: jax.Array, *others: jax.Array, settings: OperationSettings) -> Any:
        return tuple((primitive.bind if for_handler(x) else by_jax)(x, *others, settings=settings))

    return norm

"""Batch norm and its gradient as operations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad

from jaxcnn.layers.onednn.library import NORM_TARGET
from jaxcnn.layers.onednn.operations import differentiated_as, for_handler, operation


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


Norm = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


def norm_operation(name: str, by_jax: Norm) -> Norm:
    """`by_jax` as an operation: a batch norm (x, scale, bias, *, settings) -> (y, mean, var), or its gradient.

    Results are like x, scale and scale.
    """

    def results(x: Any, scale: Any, *others: Any, settings: NormSettings) -> list[tuple]:
        return [(a.shape, a.dtype) for a in (x, scale, scale)]

    primitive = operation(name, NORM_TARGET, by_jax, results)
    ad.primitive_jvps[primitive] = differentiated_as(by_jax)

    def norm(x: jax.Array, *others: jax.Array, settings: NormSettings) -> tuple[jax.Array, jax.Array, jax.Array]:
        return tuple((primitive.bind if for_handler(x) else by_jax)(x, *others, settings=settings))

    return norm

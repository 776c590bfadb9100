"""Batch norm, layer norm and their gradients as operations."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers.onednn.jax_private import primitive_jvps
from jaxcnn.layers.onednn.library import LAYER_NORM_TARGET, NORM_TARGET
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

NormName = Literal["batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient"]
_OPERATIONS = {  # the function of the handler, and the number of results
    "batch_norm": (NORM_TARGET, 3),
    "batch_norm_gradient": (NORM_TARGET, 3),
    "layer_norm": (LAYER_NORM_TARGET, 1),
    "layer_norm_gradient": (LAYER_NORM_TARGET, 3),
}


def norm_operation(name: NormName, by_jax: Norm) -> Norm:
    """Returns `by_jax`, which computes the norm or gradient `name` by jax.numpy, with the handler in its place if possible.

    All arrays are float32 where the handler computes, which returns a tuple as `by_jax` does:

        batch_norm(x, scale, bias, *, settings: NormSettings) -> (y, mean, var)
        batch_norm_gradient(x, scale, bias, mean, var, gradients of y, mean and var, *, settings) -> those of x, scale and bias
        layer_norm(x, scale, bias, *, settings: LayerNormSettings) -> (y,)
        layer_norm_gradient(x, scale, gradient of y, *, settings) -> those of x, scale and bias

    x, y and their gradients are (…, C), all others (C,). `by_jax` is also what vmap and differentiation apply to.
    """
    target, results = _OPERATIONS[name]

    def like(x: Any, scale: Any, *others: Any, settings: OperationSettings) -> list[tuple]:
        return [(a.shape, a.dtype) for a in (x, *[scale] * (results - 1))]

    primitive = operation(f"jaxcnn_{name}", target, by_jax, like)
    primitive_jvps[primitive] = differentiated_as(by_jax)

    def norm(x: jax.Array, *others: jax.Array, settings: OperationSettings) -> Any:
        return tuple((primitive.bind if for_handler(x) else by_jax)(x, *others, settings=settings))

    return norm

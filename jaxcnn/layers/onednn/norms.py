"""Batch norm, layer norm and their gradients as operations of JAX."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers.onednn.jax_private import primitive_jvps
from jaxcnn.layers.onednn.library import LAYER_NORM_TARGET, NORM_TARGET
from jaxcnn.layers.onednn.operations import OperationSettings, can_use_handler, jvp_rule, operation


class NormSettings(NamedTuple):
    """Settings of a batch norm, whose result is clipped to [low, high]: (0, ∞) is ReLU, (0, 6) ReLU6."""

    epsilon: float  # is added to the variance
    low: float = -math.inf
    high: float = math.inf

    def to_array(self) -> np.ndarray:
        """Returns the settings as the handler receives them, float32 (3,)."""
        return np.asarray(self, np.float32)

    def clip(self, v: jax.Array) -> jax.Array:
        """Returns v, clipped to the bounds."""
        v = v if self.low == -math.inf else jnp.maximum(v, self.low)
        return v if self.high == math.inf else jnp.minimum(v, self.high)

    def clip_gradient(self, v: jax.Array, gradient: jax.Array) -> jax.Array:
        """Returns the gradient of v, from the gradient of `clip(v)`."""
        if (self.low, self.high) == (-math.inf, math.inf):
            return gradient
        return jnp.where((v > self.low) & (v < self.high), gradient, jnp.zeros_like(gradient))


class LayerNormSettings(NamedTuple):
    """Settings of a layer norm."""

    epsilon: float  # is added to the variance

    def to_array(self) -> np.ndarray:
        """Returns the settings as the handler receives them, float32 (1,)."""
        return np.asarray(self, np.float32)


Norm = Callable[..., Any]  # returns a tuple of arrays

NormName = Literal["batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient"]
_OPERATIONS = {  # the function of the handler, and the number of results
    "batch_norm": (NORM_TARGET, 3),
    "batch_norm_gradient": (NORM_TARGET, 3),
    "layer_norm": (LAYER_NORM_TARGET, 1),
    "layer_norm_gradient": (LAYER_NORM_TARGET, 3),
}


def norm_operation(name: NormName, by_jax: Norm) -> Norm:
    """Returns a function that computes the norm or gradient `name` by the handler if possible, else by `by_jax`.

    `by_jax` uses jax.numpy. It also defines the derivatives and the batched form. Both return a tuple of arrays:

        batch_norm(x, scale, bias, *, settings: NormSettings) -> (y, mean, var)
        batch_norm_gradient(x, scale, bias, mean, var, gradients of y, mean and var, *, settings) -> those of x, scale and bias
        layer_norm(x, scale, bias, *, settings: LayerNormSettings) -> (y,)
        layer_norm_gradient(x, scale, gradient of y, *, settings) -> those of x, scale and bias

    x, y and their gradients are (…, C), all others (C,). The handler needs a float32 x and a program for one CPU.
    """
    target, results = _OPERATIONS[name]

    def like(x: Any, scale: Any, *others: Any, settings: OperationSettings) -> list[tuple]:
        return [(a.shape, a.dtype) for a in (x, *[scale] * (results - 1))]

    primitive = operation(f"jaxcnn_{name}", target, by_jax, like)
    primitive_jvps[primitive] = jvp_rule(by_jax)

    def norm(x: jax.Array, *others: jax.Array, settings: OperationSettings) -> Any:
        return tuple((primitive.bind if can_use_handler(x) else by_jax)(x, *others, settings=settings))

    return norm

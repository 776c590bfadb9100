"""Activations that layers compute together with something else."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]


def identity(x: jax.Array) -> jax.Array:
    """No activation."""
    return x


EVERYTHING = (-math.inf, math.inf)
BOUNDS: dict[Activation, tuple[float, float]] = {identity: EVERYTHING, nn.relu: (0.0, math.inf), nn.relu6: (0.0, 6.0)}
"""Of the activations that only keep within bounds."""


def recomputed(activation: Activation) -> Activation:
    """The same; its gradient keeps x alone, and computes again what it needs (an exponential, a Gaussian's integral)."""
    return jax.checkpoint(activation)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """nn.relu; but its gradient looks at the result, which is kept for the next layer anyway, and not at x."""
    return jnp.maximum(x, 0)


relu.defjvps(lambda gradient, y, x: jnp.where(y > 0, gradient, jnp.zeros_like(gradient)))

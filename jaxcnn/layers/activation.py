"""Activation functions, and what layers that fuse them need to know about them."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]
"""A function of each number of an array: (…) -> (…)."""


def identity(x: jax.Array) -> jax.Array:
    """Returns x: no activation."""
    return x


EVERYTHING = (-math.inf, math.inf)
BOUNDS: dict[Activation, tuple[float, float]] = {identity: EVERYTHING, nn.relu: (0.0, math.inf), nn.relu6: (0.0, 6.0)}
"""The bounds of activations that only clip their input to an interval."""


def recomputed(activation: Activation) -> Activation:
    """Returns the activation with a gradient that stores only x and recomputes intermediate values (exp, erf)."""
    return jax.checkpoint(activation)


@jax.custom_jvp
def relu(x: jax.Array) -> jax.Array:
    """nn.relu whose gradient uses the result instead of x: the next layer stores the result anyway."""
    return jnp.maximum(x, 0)


relu.defjvps(lambda gradient, y, x: jnp.where(y > 0, gradient, jnp.zeros_like(gradient)))

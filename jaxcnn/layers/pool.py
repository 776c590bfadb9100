"""Pooling, with explicit padding."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def max_pool(x: jax.Array, size: int, stride: int, *, padding: int = 0) -> jax.Array:
    """(N, H, W, C) -> (N, H', W', C): the maximum of each size×size window; what is padded never wins."""
    return nn.max_pool(x, (size, size), (stride, stride), [(padding, padding)] * 2)


def sum_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """(N, H, W, C) -> (N, H', W', C): the sum of each size×size window."""
    zero = np.zeros((), x.dtype)  # a constant: only as such does JAX see a sum, which it can differentiate
    return jax.lax.reduce_window(x, zero, jax.lax.add, (1, size, size, 1), (1, stride, stride, 1), "VALID")


def global_average_pool(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, C) float32: the mean over all positions."""
    return x.astype(jnp.float32).mean((1, 2))

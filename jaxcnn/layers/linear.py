"""The fully connected layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def uniform(bound: float) -> jax.nn.initializers.Initializer:
    """Uniform between -bound and bound."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(inputs: int, features: int, *, name: str | None = None) -> nn.Dense:
    """(N, inputs) -> (N, features) float32, whatever the compute type: it makes logits.

    Kernel and bias start uniform within ±1/sqrt(inputs), as PyTorch's nn.Linear.
    """
    init = uniform(inputs**-0.5)
    return nn.Dense(features, kernel_init=init, bias_init=init, dtype=jnp.float32, name=name)

"""The fully connected layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def uniform(bound: float) -> jax.nn.initializers.Initializer:
    """Uniform between -bound and bound."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(
    inputs: int,
    features: int,
    *,
    kernel_init: jax.nn.initializers.Initializer | None = None,
    bias_init: jax.nn.initializers.Initializer | None = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
    name: str | None = None,
) -> nn.Dense:
    """(N, inputs) -> (N, features) in `dtype`: float32, whatever the network computes in, where it makes logits.

    Kernel and bias start uniform within ±1/sqrt(inputs), as PyTorch's nn.Linear, unless told otherwise.
    """
    init = uniform(inputs**-0.5)
    return nn.Dense(features, kernel_init=kernel_init or init, bias_init=bias_init or init, dtype=dtype, name=name)

"""Linear layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def uniform(bound: float) -> jax.nn.initializers.Initializer:
    """Returns an initializer that draws uniformly between -bound and bound."""

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
    """Returns a linear layer (N, inputs) -> (N, features) in `dtype`, which should be float32 for logits.

    Kernel and bias are drawn uniformly within ±1/sqrt(inputs) by default, as in PyTorch's nn.Linear.
    """
    init = uniform(inputs**-0.5)
    return nn.Dense(features, kernel_init=kernel_init or init, bias_init=bias_init or init, dtype=dtype, name=name)

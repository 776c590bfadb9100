"""Normalisation by group and by layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.activation import Activation, identity


class GroupNorm(nn.Module):
    """Each image's channels normalised in groups of neighbours, over all positions.

    Wu, He: Group Normalization. ECCV 2018, arXiv:1803.08494. In float32 like BatchNorm, and for the same reason.
    """

    groups: int = 32
    epsilon: float = 1e-5
    activation: Activation = identity
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C) in `dtype`."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        grouped = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
        var = jnp.square(centred).mean((1, 2, 4), keepdims=True)
        y = (centred * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return self.activation((y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)).astype(self.dtype))


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis: the channels of each position, by themselves.

    Ba, Kiros, Hinton: Layer Normalization. 2016, arXiv:1607.06450. As in BatchNorm, only the result is `dtype`.
    """

    epsilon: float = 1e-6
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(…, C) -> (…, C) in `dtype`."""
        shape = (x.shape[-1],)
        wide = (1,) * (x.ndim - 1) + shape
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32).reshape(wide)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32).reshape(wide)
        x = x.astype(jnp.float32)
        x = x - x.mean(-1, keepdims=True)
        var = jnp.square(x).mean(-1, keepdims=True)
        return (x * jax.lax.rsqrt(var + self.epsilon) * scale + bias).astype(self.dtype)

"""Group and layer normalization."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.activation import Activation, identity
from jaxcnn.layers.onednn import LayerNormSettings, norm_operation


class GroupNorm(nn.Module):
    """Normalizes each group of consecutive channels of an image, over all positions.

    Wu, He: Group Normalization. ECCV 2018, arXiv:1803.08494. As in BatchNorm, only the result has `dtype`.
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
        centered = grouped - grouped.mean((1, 2, 4), keepdims=True)
        var = jnp.square(centered).mean((1, 2, 4), keepdims=True)
        y = (centered * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return self.activation((y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)).astype(self.dtype))


class LayerNorm(nn.Module):
    """Layer normalization over the last axis: the channels at each position.

    Ba, Kiros, Hinton: Layer Normalization. 2016, arXiv:1607.06450. As in BatchNorm, only the result has `dtype`.
    """

    epsilon: float = 1e-6
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(…, C) -> (…, C) in `dtype`."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        return layer_normalized(x, scale, bias, LayerNormSettings(self.epsilon)).astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_normalized(x: jax.Array, scale: jax.Array, bias: jax.Array, settings: LayerNormSettings) -> jax.Array:
    """Normalizes x (…, C) by mean and biased variance over the last axis: (…, C) float32. The gradient stores only x."""
    return _forward(x, scale, bias, settings=settings)[0]


def _normal(x: jax.Array, settings: LayerNormSettings) -> tuple[jax.Array, jax.Array]:
    """Returns x with mean 0 and variance 1 over the last axis, and 1 / standard deviation (…, 1)."""
    x32 = x.astype(jnp.float32)
    centered = x32 - x32.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + settings.epsilon)
    return centered * inverse, inverse


def _forward_by_jax(x: jax.Array, scale: jax.Array, bias: jax.Array, *, settings: LayerNormSettings) -> tuple[jax.Array]:
    axes = tuple(range(x.ndim - 1))
    return (_normal(x, settings)[0] * jnp.expand_dims(scale, axes) + jnp.expand_dims(bias, axes),)


def _backward_by_jax(
    x: jax.Array, scale: jax.Array, gradient: jax.Array, *, settings: LayerNormSettings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    axes = tuple(range(x.ndim - 1))
    normal, inverse = _normal(x, settings)
    scaled = gradient * jnp.expand_dims(scale, axes)
    projection = (scaled * normal).mean(-1, keepdims=True)
    x_gradient = (scaled - scaled.mean(-1, keepdims=True) - normal * projection) * inverse
    return x_gradient.astype(x.dtype), (gradient * normal).sum(axes), gradient.sum(axes)


_forward = norm_operation("layer_norm", _forward_by_jax)
_backward = norm_operation("layer_norm_gradient", _backward_by_jax)


def _vjp_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, settings: LayerNormSettings) -> tuple[jax.Array, tuple]:
    return _forward(x, scale, bias, settings=settings)[0], (x, scale)


def _vjp_backward(settings: LayerNormSettings, residuals: tuple, gradient: jax.Array) -> tuple[jax.Array, ...]:
    return _backward(*residuals, gradient, settings=settings)


layer_normalized.defvjp(_vjp_forward, _vjp_backward)

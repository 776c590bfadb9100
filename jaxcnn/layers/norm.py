"""Normalisation."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last.

    Ioffe, Szegedy: Batch Normalization. ICML 2015, arXiv:1502.03167.

    Stands for flax's nn.BatchNorm, which cannot take a bfloat16 input under strict dtype promotion, and whose running
    variance is the biased one; the variables have the same names. Statistics and parameters are float32 and so is the
    arithmetic; only the result is `dtype`. Under jit, the statistics of a sharded batch are those of the whole batch.
    """

    use_running_average: bool  # True in evaluation, and in training where the statistics are frozen
    momentum: float = 0.1  # weight of the new batch: PyTorch's convention; 1 - Flax's
    epsilon: float = 1e-5
    unbiased: bool = True  # the running variance takes the batch variance × n / (n - 1), as PyTorch's and the paper's
    use_scale: bool = True
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(…, C) -> (…, C) in `dtype`; the running statistics move only where "batch_stats" is mutable."""
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape, jnp.float32) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", self.bias_init, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)

        if self.use_running_average:
            return _affine(x, running_mean.value, running_var.value, scale, bias, self.epsilon).astype(self.dtype)
        y, mean, var = normalized_by_batch(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            n = x.size // x.shape[-1]
            new_var = var * (n / max(n - 1, 1)) if self.unbiased else var
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (new_var - running_var.value)
        return y.astype(self.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalized_by_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises x (…, C) by its own statistics: (…, C), mean (C,) and biased variance (C,). All results are float32.

    The gradients are Ioffe and Szegedy's (section 3). They take x again, which is there anyway, where JAX would keep x - mean
    as well; forward and back took three quarters of the time on a CPU.
    """
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    # On a CPU XLA computes each sum by itself, and the plain one five times as fast as another: twice over the data is quicker.
    mean, var = _moments(wide, axes) if jax.default_backend() == "cpu" else _moments_in_one_pass(wide, axes)
    return _affine(x, mean, var, scale, bias, epsilon), mean, var


def _moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    mean = x.mean(axes)
    return mean, jnp.square(x - jnp.expand_dims(mean, axes)).mean(axes)


def _moments_in_one_pass(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    sample = x[(0,) * len(axes)]  # of x less this; of x itself, a mean far from 0 would cancel the variance
    shifted = x - jnp.expand_dims(sample, axes)
    offset = shifted.mean(axes)
    return sample + offset, jnp.maximum(jnp.square(shifted).mean(axes) - jnp.square(offset), 0)


def _affine(x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    axes = tuple(range(x.ndim - 1))
    factor = jnp.expand_dims(scale * jax.lax.rsqrt(var + epsilon), axes)
    return (x.astype(jnp.float32) - jnp.expand_dims(mean, axes)) * factor + jnp.expand_dims(bias, axes)


def _vjp_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[tuple, tuple]:
    y, mean, var = normalized_by_batch(x, scale, bias, epsilon)
    return (y, mean, var), (x, mean, var, scale)


def _vjp_backward(epsilon: float, residuals: tuple, gradients: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
    (x, mean, var, scale), (y_gradient, mean_gradient, var_gradient) = residuals, gradients
    axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    centred = x.astype(jnp.float32) - jnp.expand_dims(mean, axes)
    bias_gradient = y_gradient.sum(axes)
    scale_gradient = (y_gradient * centred).sum(axes) * inverse
    factor = scale * inverse
    of_centred = (2 * var_gradient - factor * inverse * scale_gradient) / n
    constant = (mean_gradient - factor * bias_gradient) / n
    of_y, of_centred, constant = (jnp.expand_dims(v, axes) for v in (factor, of_centred, constant))
    x_gradient = y_gradient * of_y + centred * of_centred + constant
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


normalized_by_batch.defvjp(_vjp_forward, _vjp_backward)


class GroupNorm(nn.Module):
    """Each image's channels normalised in groups of neighbours, over all positions.

    Wu, He: Group Normalization. ECCV 2018, arXiv:1803.08494. In float32 like BatchNorm, and for the same reason.
    """

    groups: int = 32
    epsilon: float = 1e-5
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
        return (y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)).astype(self.dtype)


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

"""Batch normalization with the activation that follows it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.activation import BOUNDS, EVERYTHING, Activation, identity, recomputed
from jaxcnn.layers.onednn import NormSettings, norm_operation


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last.

    Ioffe, Szegedy: Batch Normalization. ICML 2015, arXiv:1502.03167.

    Replaces flax's nn.BatchNorm, which does not accept bfloat16 inputs under strict dtype promotion and whose running variance
    is biased. The variables have the same names. Parameters, statistics and arithmetic are float32; the result has `dtype`.
    Under jit, the statistics of a sharded batch are those of the entire batch. The following `activation` is an argument
    because ReLU and ReLU6 are fused with the norm in training.
    """

    use_running_average: bool  # in evaluation, and in training with frozen statistics
    momentum: float = 0.1  # weight of the new batch: PyTorch's convention, 1 - Flax's momentum
    epsilon: float = 1e-5
    unbiased: bool = True  # running variances average batch variance × n / (n - 1), as in PyTorch and the paper
    use_scale: bool = True
    scale_init: jax.nn.initializers.Initializer = nn.initializers.ones
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros
    activation: Activation = identity
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x):
        """(…, C) -> (…, C) in `dtype`; in training, "batch_stats" must be mutable and is updated."""
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape, jnp.float32) if self.use_scale else jnp.ones(shape)
        bias = self.param("bias", self.bias_init, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)

        if self.use_running_average:
            y = _affine(x, running_mean.value, running_var.value, scale, bias, self.epsilon)
            return self.activation(y.astype(self.dtype))
        bounds = BOUNDS.get(self.activation)
        y, mean, var = normalized_by_batch(x, scale, bias, NormSettings(self.epsilon, *(bounds or EVERYTHING)))
        if not self.is_initializing():
            n = x.size // x.shape[-1]
            new_var = var * (n / max(n - 1, 1)) if self.unbiased else var
            running_mean.value += self.momentum * (mean - running_mean.value)
            running_var.value += self.momentum * (new_var - running_var.value)
        return y.astype(self.dtype) if bounds else recomputed(self.activation)(y.astype(self.dtype))


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalized_by_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array, settings: NormSettings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes x (…, C) by its own statistics. Returns y (…, C), mean (C,) and biased variance (C,), all float32.

    y is clipped to [settings.low, settings.high]. The gradients are Ioffe and Szegedy's (section 3), computed from x, which is
    stored anyway; automatic differentiation would also store x - mean and the mask of clipped values.
    """
    return _forward(x, scale, bias, settings=settings)


def _forward_by_jax(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, settings: NormSettings
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x32, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    # On CPUs, XLA does not fuse the two sums, and a plain sum is five times as fast as others: two passes are faster there.
    mean, var = _moments(x32, axes) if jax.default_backend() == "cpu" else _moments_in_one_pass(x32, axes)
    return settings.clip(_affine(x, mean, var, scale, bias, settings.epsilon)), mean, var


def _moments(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    mean = x.mean(axes)
    return mean, jnp.square(x - jnp.expand_dims(mean, axes)).mean(axes)


def _moments_in_one_pass(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    sample = x[(0,) * len(axes)]  # subtracted first, because a mean far from 0 would cancel the digits of the variance
    shifted = x - jnp.expand_dims(sample, axes)
    offset = shifted.mean(axes)
    return sample + offset, jnp.maximum(jnp.square(shifted).mean(axes) - jnp.square(offset), 0)


def _affine(x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    axes = tuple(range(x.ndim - 1))
    factor = jnp.expand_dims(scale * jax.lax.rsqrt(var + epsilon), axes)
    return (x.astype(jnp.float32) - jnp.expand_dims(mean, axes)) * factor + jnp.expand_dims(bias, axes)


def _backward_by_jax(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    y_gradient: jax.Array,
    mean_gradient: jax.Array,
    var_gradient: jax.Array,
    *,
    settings: NormSettings,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    y_gradient = settings.clip_gradient(_affine(x, mean, var, scale, bias, settings.epsilon), y_gradient)
    inverse = jax.lax.rsqrt(var + settings.epsilon)
    centered = x.astype(jnp.float32) - jnp.expand_dims(mean, axes)
    bias_gradient = y_gradient.sum(axes)
    scale_gradient = (y_gradient * centered).sum(axes) * inverse
    factor = scale * inverse
    centered_factor = (2 * var_gradient - factor * inverse * scale_gradient) / n
    constant = (mean_gradient - factor * bias_gradient) / n
    factor, centered_factor, constant = (jnp.expand_dims(v, axes) for v in (factor, centered_factor, constant))
    x_gradient = y_gradient * factor + centered * centered_factor + constant
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


_forward = norm_operation("batch_norm", _forward_by_jax)
_backward = norm_operation("batch_norm_gradient", _backward_by_jax)


def _vjp_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, settings: NormSettings) -> tuple[tuple, tuple]:
    y, mean, var = _forward(x, scale, bias, settings=settings)
    return (y, mean, var), (x, scale, bias, mean, var)


def _vjp_backward(settings: NormSettings, residuals: tuple, gradients: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _backward(*residuals, *gradients, settings=settings)


normalized_by_batch.defvjp(_vjp_forward, _vjp_backward)

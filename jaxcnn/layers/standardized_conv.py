"""Convolutions that standardise their kernel, for networks without batch norm."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


class StandardizedConv(nn.Conv):
    """A convolution whose kernel has mean 0 and variance 1 over the inputs of each filter.

    Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
    arXiv:1903.10520. The parameters are those before standardising; it is computed in float32. `conv(…, kind=…)` makes one.
    """

    epsilon: float = 1e-6

    def param(self, name, init_fn, *init_args, **init_kwargs):
        """What nn.Conv asks for its kernel and bias."""
        value = super().param(name, init_fn, *init_args, **init_kwargs)
        return self.standardized(value) if name == "kernel" else value

    def standardized(self, kernel: jax.Array) -> jax.Array:
        """(height, width, inputs, features) -> the same."""
        axes = (0, 1, 2)
        centred = kernel - kernel.mean(axes, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes, keepdims=True) + self.epsilon)


class ScaledStandardizedConv(StandardizedConv):
    """The same scaled to variance gamma² / inputs of a filter, which keeps the variance of what goes through, times a gain.

    Brock, De, Smith: Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets. ICLR 2021,
    arXiv:2101.08692, equation 2. `gamma` makes up for the activation before. The gain is trained, one a filter.
    """

    gamma: float = 1.0
    gain_init: jax.nn.initializers.Initializer = nn.initializers.ones

    def standardized(self, kernel: jax.Array) -> jax.Array:
        """(height, width, inputs, features) -> the same."""
        gain = super().param("gain", self.gain_init, (self.features,), jnp.float32)
        scale = gain * self.gamma / math.sqrt(math.prod(kernel.shape[:3]))
        return super().standardized(kernel) * scale.reshape(1, 1, 1, -1)

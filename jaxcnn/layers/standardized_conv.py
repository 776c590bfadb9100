"""Convolutions with standardized kernels, for networks without batch norm."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


class StandardizedConv(nn.Conv):
    """A convolution whose kernel is standardized to mean 0 and variance 1 over the inputs of each filter.

    Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight Standardization.
    arXiv:1903.10520. The kernel is stored before standardization, which is computed in float32. Created by
    `conv(…, kind=StandardizedConv)`.
    """

    epsilon: float = 1e-6

    def param(self, name, init_fn, *init_args, **init_kwargs):
        """Returns nn.Conv's parameters, with the kernel standardized."""
        value = super().param(name, init_fn, *init_args, **init_kwargs)
        return self.standardized(value) if name == "kernel" else value

    def standardized(self, kernel: jax.Array) -> jax.Array:
        """Standardizes a kernel (height, width, inputs, features); the shape stays."""
        axes = (0, 1, 2)
        centered = kernel - kernel.mean(axes, keepdims=True)
        return centered * jax.lax.rsqrt(jnp.square(centered).mean(axes, keepdims=True) + self.epsilon)


class ScaledStandardizedConv(StandardizedConv):
    """A standardized convolution that preserves the variance of activations: kernels have variance gain² · gamma² / inputs.

    Brock, De, Smith: Characterizing Signal Propagation to Close the Performance Gap in Unnormalized ResNets. ICLR 2021,
    arXiv:2101.08692, equation 2. `gamma` compensates for the preceding activation. The gain of each filter is trained.
    """

    gamma: float = 1.0
    gain_init: jax.nn.initializers.Initializer = nn.initializers.ones

    def standardized(self, kernel: jax.Array) -> jax.Array:
        """Standardizes a kernel (height, width, inputs, features); the shape stays."""
        gain = super().param("gain", self.gain_init, (self.features,), jnp.float32)
        scale = gain * self.gamma / math.sqrt(math.prod(kernel.shape[:3]))
        return super().standardized(kernel) * scale.reshape(1, 1, 1, -1)

"""Squeeze-and-excitation."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.conv import HE_FAN_OUT, conv


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate, which two layers compute from the global means of all channels.

    Hu, Shen, Sun: Squeeze-and-Excitation Networks. CVPR 2018, arXiv:1709.01507, equations 2 to 4. The first layer has `reduced`
    outputs. Both are 1×1 convolutions with bias on 1×1 maps, as in most published weights.
    """

    reduced: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    gate: Callable[[jax.Array], jax.Array] = nn.sigmoid
    kernel_init: jax.nn.initializers.Initializer = HE_FAN_OUT
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H, W, C)."""
        layer = partial(conv, size=1, use_bias=True, kernel_init=self.kernel_init, dtype=self.dtype)
        squeezed = x.astype(jnp.float32).mean((1, 2), keepdims=True).astype(x.dtype)
        y = self.activation(layer(self.reduced, name="reduce")(squeezed))
        return x * self.gate(layer(x.shape[-1], name="expand")(y))

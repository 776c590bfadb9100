"""Transposed convolution."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.onednn import convolve


class TransposedConv(nn.Module):
    """A transposed convolution, as PyTorch's ConvTranspose2d: (N, H, W, C) -> (N, H', W', features).

    H' = (H - 1) · stride - 2 · padding + size. It is computed as the transpose of the convolution (N, H', W', features) ->
    (N, H, W, C) with the same stride, padding and kernel (size, size, features, C), by oneDNN on CPUs. There, the gradient of
    jax.lax.conv_transpose takes 20 times as long (16×16×16×256 -> 16×32×32×128).

    Dumoulin, Visin: A guide to convolution arithmetic for deep learning. 2016, arXiv:1603.07285, section 4.
    """

    features: int
    size: int
    stride: int
    padding: int = 0
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
    bias_init: Callable = nn.initializers.zeros
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', features)."""
        count, height, width, channels = x.shape
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, self.features, channels)).astype(self.dtype)
        pads = ((self.padding, self.padding),) * 2
        rows, columns = ((length - 1) * self.stride - 2 * self.padding + self.size for length in (height, width))
        result = jax.ShapeDtypeStruct((count, rows, columns, self.features), kernel.dtype)

        def conv(y: jax.Array) -> jax.Array:
            return convolve(y, kernel, (self.stride, self.stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        (y,) = jax.linear_transpose(conv, result)(x.astype(self.dtype))
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,)).astype(self.dtype).reshape(1, 1, 1, -1)
        return y

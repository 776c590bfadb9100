"""Pooling."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers.onednn import maximum_of_windows


def max_pool(x: jax.Array, size: int, stride: int, *, padding: int | Literal["SAME"] = 0, ceil_mode: bool = False) -> jax.Array:
    """Returns the maximum of each size×size window, ignoring padding: (N, H, W, C) -> (N, H', W', C).

    With `ceil_mode`, windows that start inside the image or its left padding but extend beyond the right one are included,
    as in PyTorch. The gradient goes to the first of equal maxima.
    """
    pads = _padding(x, size, stride, padding, ceil_mode)
    if size <= 3 and jax.default_backend() == "cpu":
        # On CPUs, XLA's gradient of reduce_window, select_and_scatter, is a scalar loop: 0.31 s for the first pool of a ResNet
        # on 8 images of 224×224.
        if isinstance(pads, str):
            pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), (stride, stride), pads)
        return maximum_of_windows(x, size, stride, pads)
    return nn.max_pool(x, (size, size), (stride, stride), pads)


def average_pool(
    x: jax.Array,
    size: int,
    stride: int,
    *,
    padding: int | Literal["SAME"] = 0,
    ceil_mode: bool = False,
    count_padding: bool = True,
) -> jax.Array:
    """Returns the mean of each size×size window: (N, H, W, C) -> (N, H', W', C).

    With `count_padding`, zeros of the padding are included in the mean, as by default in PyTorch (count_include_pad). Pixels
    that `ceil_mode` or "SAME" adds never are.
    """
    window, strides, pads = (size, size), (stride, stride), _padding(x, size, stride, padding, ceil_mode)
    if isinstance(pads, str):
        pads = jax.lax.padtype_to_pads(x.shape[1:3], window, strides, pads)
    counted = 0 if isinstance(padding, str) or not count_padding else padding
    zero = np.zeros((), x.dtype)
    sums = jax.lax.reduce_window(x, zero, jax.lax.add, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0)))
    counts = []
    for length, (before, _), windows in zip(x.shape[1:3], pads, sums.shape[1:3], strict=True):
        start = np.arange(windows) * stride - before
        counts.append(np.minimum(start + size, length + counted) - np.maximum(start, -counted))
    return sums / jnp.asarray(np.multiply.outer(*counts)[None, :, :, None], x.dtype)


def _padding(
    x: jax.Array, size: int, stride: int, padding: int | Literal["SAME"], ceil_mode: bool
) -> Literal["SAME"] | list[tuple[int, int]]:
    if padding == "SAME":
        return "SAME"
    pads = []
    for length in x.shape[1:3]:
        after = padding
        if ceil_mode:
            windows = -(-(length + 2 * padding - size) // stride) + 1
            if (windows - 1) * stride >= length + padding:  # the last window would start in the padding at the end
                windows -= 1
            after = (windows - 1) * stride + size - length - padding
        pads.append((padding, max(after, 0) if ceil_mode else after))
    return pads


def sum_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Returns the sum of each size×size window: (N, H, W, C) -> (N, H', W', C)."""
    zero = np.zeros((), x.dtype)  # a concrete zero, for which JAX recognizes a sum, which is differentiable
    return jax.lax.reduce_window(x, zero, jax.lax.add, (1, size, size, 1), (1, stride, stride, 1), "VALID")


def global_average_pool(x: jax.Array) -> jax.Array:
    """Returns the mean over all positions: (N, H, W, C) -> (N, C) float32."""
    return x.astype(jnp.float32).mean((1, 2))


def largest(x: jax.Array, axis: int) -> jax.Array:
    """Returns the maximum along an axis, which is removed. The gradient goes to the first of equal maxima.

    jnp.max divides its gradient by the number of elements that equal the maximum. That number is 0, and the gradient infinite,
    if XLA computes x twice with different rounding.
    """
    return jnp.take_along_axis(x, x.argmax(axis, keepdims=True), axis).squeeze(axis)


def global_max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum over all positions: (N, H, W, C) -> (N, C)."""
    return largest(x.reshape(x.shape[0], -1, x.shape[3]), 1)


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns means over size×size cells, as PyTorch's AdaptiveAvgPool2d: (N, H, W, C) -> (N, size, size, C).

    Cell i of n pixels is from floor(i · n / size) to ceil((i + 1) · n / size). Cells overlap by a pixel if size does not divide
    n, and repeat pixels if n < size.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n != size:
            weights = np.zeros((size, n), np.float32)
            for i in range(size):
                start, stop = i * n // size, -(-(i + 1) * n // size)
                weights[i, start:stop] = 1 / (stop - start)
            x = jnp.moveaxis(jnp.tensordot(x, jnp.asarray(weights, x.dtype), ((axis,), (1,))), -1, axis)
    return x


def blur_pool(x: jax.Array, stride: int) -> jax.Array:
    """Smooths each channel by (1, 2, 1) / 4 along both axes, with mirrored edges, and strides: (N, H, W, C) -> (N, H', W', C).

    Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019, arXiv:1904.11486.
    """
    for axis in (1, 2):
        padding = [(1, 1) if a == axis else (0, 0) for a in range(4)]
        before, center, after = (
            jax.lax.slice_in_dim(jnp.pad(x, padding, "reflect"), i, i + x.shape[axis], stride, axis) for i in range(3)
        )
        x = (before + 2 * center + after) / 4
    return x

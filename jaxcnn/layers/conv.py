"""Convolution: every family's goes through `conv` or `convolve`, where it is decided which implementation computes it."""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.onednn import convolve


def he_normal(fan: Literal["fan_in", "fan_out"]) -> jax.nn.initializers.Initializer:
    """Normal with variance 2 / fan, which keeps the variance through ReLU layers.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers. ICCV 2015, arXiv:1502.01852. "fan_in" keeps that of the
    activations (equation 10), "fan_out" that of the gradients (equation 14). Not truncated, as PyTorch's
    kaiming_normal_; JAX's own he_normal is.
    """
    return jax.nn.initializers.variance_scaling(2.0, fan, "normal")


HE_FAN_OUT = he_normal("fan_out")  # as torchvision's networks start

Padding = int | Sequence[int | tuple[int, int]] | Literal["SAME"]
"""Pixels on each side; or those of height and of width, each as one number or as (before, after); or TensorFlow's "SAME"."""


def conv(
    features: int,
    size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    *,
    padding: Padding | None = None,
    groups: int = 1,
    dilation: int = 1,
    use_bias: bool = False,
    kernel_init: jax.nn.initializers.Initializer = HE_FAN_OUT,
    bias_init: jax.nn.initializers.Initializer = nn.initializers.zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
    kind: Callable[..., nn.Conv] = nn.Conv,
    name: str | None = None,
) -> nn.Conv:
    """A convolution of `size` (height, width), (N, H, W, C) -> (N, H', W', features) in `dtype`; its parameters are float32.

    Pads explicitly, the same on each side, dilation · (size - 1) / 2 unless told otherwise: PyTorch's form. "SAME" is
    TensorFlow's, which pads a strided convolution more on the far side. `groups` of C is a depthwise convolution.
    `kind` is what does something with the kernel first (StandardizedConv).
    """
    height, width = (size, size) if isinstance(size, int) else size
    if padding is None:
        padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
    return kind(
        features,
        (height, width),
        stride,
        conv_general_dilated=convolve,
        padding=padding,
        feature_group_count=groups,
        kernel_dilation=dilation,
        use_bias=use_bias,
        kernel_init=kernel_init,
        bias_init=bias_init,
        dtype=dtype,
        name=name,
    )

"""Convolution. All networks use `conv` or `convolve`, which choose the implementation: XLA, or oneDNN on CPUs."""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.onednn import convolve


def he_normal(fan: Literal["fan_in", "fan_out"]) -> jax.nn.initializers.Initializer:
    """Returns a normal initializer with variance 2 / fan, which preserves variance through ReLU layers.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers. ICCV 2015, arXiv:1502.01852. "fan_in" preserves the variance of
    activations (equation 10), "fan_out" that of gradients (equation 14). The distribution is not truncated, as in PyTorch's
    kaiming_normal_; JAX's he_normal is.
    """
    return jax.nn.initializers.variance_scaling(2.0, fan, "normal")


HE_FAN_OUT = he_normal("fan_out")  # the default of torchvision's networks

Padding = int | Sequence[int | tuple[int, int]] | Literal["SAME"]
"""Pixels on all sides; or (rows, columns), where each is a number or (before, after); or "SAME", TensorFlow's rule."""


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
    """Returns a convolution (N, H, W, C) -> (N, H', W', features) in `dtype` with float32 parameters.

        x = conv(64, 7, 2, name="stem_conv")(images)  # (N, H, W, 3) -> (N, H/2, W/2, 64)

    `size` is that of the kernel, one number or (height, width). `padding` defaults to dilation · (size - 1) / 2 on each side,
    PyTorch's convention; "SAME" is TensorFlow's, which pads strided convolutions more at the bottom and right. With groups=C
    the convolution is depthwise. `kind` is the module's class, for instance StandardizedConv.
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

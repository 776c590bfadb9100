"""Convolution: every family's goes through `conv`, so that another implementation is put in at one place."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp


def he_normal(fan: Literal["fan_in", "fan_out"]) -> jax.nn.initializers.Initializer:
    """Normal with variance 2 / fan, which keeps the variance through ReLU layers.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers. ICCV 2015, arXiv:1502.01852. "fan_in" keeps that of the
    activations (equation 10), "fan_out" that of the gradients (equation 14). Not truncated, as PyTorch's
    kaiming_normal_; JAX's own he_normal is.
    """
    return jax.nn.initializers.variance_scaling(2.0, fan, "normal")


HE_FAN_OUT = he_normal("fan_out")  # as torchvision's networks start


def conv(
    features: int,
    size: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    use_bias: bool = False,
    kernel_init: jax.nn.initializers.Initializer = HE_FAN_OUT,
    dtype: jax.typing.DTypeLike = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """A size×size convolution, (N, H, W, C) -> (N, H', W', features) in `dtype`; its parameters are float32.

    Pads explicitly, the same on each side, (size - 1) / 2 unless told otherwise: PyTorch's form. Flax's "SAME" is
    TensorFlow's, which pads a strided convolution more on the far side.
    """
    return nn.Conv(
        features,
        (size, size),
        (stride, stride),
        padding=(size - 1) // 2 if padding is None else padding,
        use_bias=use_bias,
        kernel_init=kernel_init,
        dtype=dtype,
        name=name,
    )

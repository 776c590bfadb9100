"""Convolution: every family's goes through `conv` or `convolve`, where it is decided which implementation computes it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jaxcnn.layers.onednn import KINDS, ConvSettings, choice, convolution, described, shape_of, warn_once


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


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: str | Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`; by oneDNN where that is here, on a CPU, and knows how (see jaxcnn.layers.onednn)."""
    settings = _for_onednn(x, kernel, window_strides, padding, **options)
    if settings and settings.kernel == (1, 1) and settings.strides != (1, 1) and not any(map(any, settings.padding)):
        # Of some positions only: taken out here. oneDNN does it itself, beyond the end of its memory where channels are no
        # multiple of 8 (3.2, jit_1x1:avx2, the kernel's gradient): wrong numbers, or threads that wait for ever.
        rows, columns = settings.strides
        return convolve(x[:, ::rows, ::columns], kernel, (1, 1), padding, **options)
    if settings:
        return convolution(x, kernel, settings)
    return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)


def cpu_convolution() -> str:
    """What computes convolutions here: "onednn 3.2 (avx2)", "xla", "xla (not onednn: why)"; "" where this is no CPU.

    Who asks shall tell the user: it is not logged then.

    Raises:
      UserError: JAXCNN_CPU_CONV asks for what can't be.
    """
    return described() if jax.default_backend() == "cpu" else ""


_NHWC = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # and HWIO


def _for_onednn(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: jax.lax.PrecisionLike = None,
    **others: Any,
) -> ConvSettings | None:
    """The convolution as oneDNN takes it; None where XLA shall compute it (and say what is wrong, if something is)."""
    groups, dilation = feature_group_count, rhs_dilation or (1, 1)
    if jax.default_backend() != "cpu" or any(others.values()) or any(size != 1 for size in lhs_dilation or ()):
        return None
    if x.ndim != 4 or kernel.ndim != 4 or x.dtype != kernel.dtype or x.dtype not in (jnp.float32, jnp.bfloat16):
        return None
    if jax.lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers) != _NHWC:
        return None
    if not all(isinstance(size, int) and size > 0 for size in (*x.shape, *kernel.shape)):  # an exported size may be a name
        return None
    if x.shape[3] != kernel.shape[2] * groups or kernel.shape[3] % groups:
        return None
    if AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types:
        return None
    if isinstance(padding, str):
        extents = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation, strict=True)]
        padding = jax.lax.padtype_to_pads(x.shape[1:3], extents, strides, padding)
    rows, columns = padding
    settings = ConvSettings(
        strides=_pair(strides),
        padding=(_pair(rows), _pair(columns)),
        dilation=_pair(dilation),
        groups=groups,
        image=_pair(x.shape[1:3]),
        kernel=_pair(kernel.shape[:2]),
        compute=jnp.dtype(jnp.float32),
        precision=precision,
    )
    if min(settings.output) < 1 or min(*rows, *columns) < 0:
        return None
    library = choice().library
    if not library:
        warn_once()
        return None
    if x.dtype == jnp.bfloat16 and library.native_bfloat16 and groups < x.shape[3]:
        settings = settings._replace(compute=jnp.dtype(jnp.bfloat16))
    shape = shape_of(x.shape, kernel.shape[3], settings)
    programs = [library.implementation(kind, settings.compute, shape) for kind in KINDS]
    # "ref" is oneDNN's plain loop, for what it has no fast program for
    return settings if all(program and not program.startswith("ref") for program in programs) else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)

"""Convolution. All networks use `conv` or `convolve`, which choose the implementation: XLA, or oneDNN on CPUs."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jaxcnn.layers.onednn import KINDS, ConvSettings, choice, convolution, described, shape_of, warn_once


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


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: str | Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """jax.lax.conv_general_dilated, computed by oneDNN on CPUs if it is installed and supports the case."""
    settings = _for_onednn(x, kernel, window_strides, padding, **options)
    if settings and settings.kernel == (1, 1) and settings.strides != (1, 1) and not any(map(any, settings.padding)):
        # A strided 1×1 convolution uses some positions only, which are selected here. If channels are not a multiple of 8,
        # oneDNN 3.2 (jit_1x1:avx2, kernel gradient) accesses memory beyond its buffers: wrong results or deadlocked threads.
        rows, columns = settings.strides
        return convolve(x[:, ::rows, ::columns], kernel, (1, 1), padding, **options)
    if settings:
        return convolution(x, kernel, settings)
    return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)


def cpu_convolution() -> str:
    """Returns the implementation of convolutions on a CPU: "onednn 3.2 (avx2)", "xla" or "xla (not onednn: REASON)".

    On other devices it returns "". The caller should show the result to the user: the warning that oneDNN is not used is
    not logged after this call.

    Raises:
      UserError: JAXCNN_CPU_CONV asks for an implementation that is not available.
    """
    return described() if jax.default_backend() == "cpu" else ""


_NHWC = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # with HWIO kernels


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
    """Returns the settings for oneDNN, or None if XLA shall compute the convolution, which also reports wrong arguments."""
    groups, dilation = feature_group_count, rhs_dilation or (1, 1)
    if jax.default_backend() != "cpu" or any(others.values()) or any(size != 1 for size in lhs_dilation or ()):
        return None
    if x.ndim != 4 or kernel.ndim != 4 or x.dtype != kernel.dtype or x.dtype not in (jnp.float32, jnp.bfloat16):
        return None
    if jax.lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers) != _NHWC:
        return None
    if not all(isinstance(size, int) and size > 0 for size in (*x.shape, *kernel.shape)):  # sizes may be symbolic in jax.export
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
    # "ref" is oneDNN's slow reference implementation
    return settings if all(program and not program.startswith("ref") for program in programs) else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)

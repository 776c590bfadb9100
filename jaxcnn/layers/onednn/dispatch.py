"""Decides for each convolution whether oneDNN or XLA computes it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from jaxcnn.layers.onednn import decide
from jaxcnn.layers.onednn.library import KINDS
from jaxcnn.layers.onednn.primitives import ConvSettings, convolution, shape_of

_NHWC = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # kernel: HWIO


def convolve(
    x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: str | Sequence[tuple[int, int]], **options: Any
) -> jax.Array:
    """Returns what `jax.lax.conv_general_dilated` returns for the same arguments, computed by oneDNN if possible.

    oneDNN computes two-dimensional convolutions of images in NHWC with kernels in HWIO, both float32 or both bfloat16, in
    programs for CPUs, if it has a fast implementation for the convolution and for both of its gradients. XLA computes all
    others: other layouts and dtypes, `lhs_dilation`, sizes that are unknown when the function is traced, and arrays whose type
    contains their sharding.

    Raises:
      UserError: JAXCNN_CPU_CONV has an unknown value, or is "onednn" and oneDNN cannot be used.
    """
    settings = _settings(x, kernel, window_strides, padding, **options)
    if settings is None:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)
    if settings.kernel == (1, 1) and settings.strides != (1, 1) and not any(map(any, settings.padding)):
        # Such a convolution reads some pixels only, which are selected here. oneDNN's own implementation (3.2, jit_1x1:avx2,
        # kernel gradient) writes past the end of its memory if the channels are not a multiple of 8: the numbers are wrong, or
        # its threads wait forever.
        rows, columns = settings.strides
        return convolve(x[:, ::rows, ::columns], kernel, (1, 1), padding, **options)
    return convolution(x, kernel, settings)


def _settings(
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
    """Returns the settings with which oneDNN computes the convolution, or None if XLA computes it or reports an error."""
    groups, dilation = feature_group_count, rhs_dilation or (1, 1)
    if jax.default_backend() != "cpu" or any(others.values()) or any(size != 1 for size in lhs_dilation or ()):
        return None
    if x.ndim != 4 or kernel.ndim != 4 or x.dtype != kernel.dtype or x.dtype not in (jnp.float32, jnp.bfloat16):
        return None
    if jax.lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers) != _NHWC:
        return None
    if not all(isinstance(size, int) and size > 0 for size in (*x.shape, *kernel.shape)):  # jax.export has symbolic sizes
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
    library = decide.choice().library
    if not library:
        decide.warn_once()
        return None
    if x.dtype == jnp.bfloat16 and library.native_bfloat16 and groups < x.shape[3]:
        settings = settings._replace(compute=jnp.dtype(jnp.bfloat16))
    shape = shape_of(x.shape, kernel.shape[3], settings)
    implementations = [library.implementation(kind, settings.compute, shape) for kind in KINDS]
    # "ref" is oneDNN's unoptimized loop, "" means that it has no implementation.
    return settings if all(name and not name.startswith("ref") for name in implementations) else None


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)

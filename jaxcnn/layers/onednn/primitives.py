"""The convolution and its two gradients as operations of JAX.

These are FORWARD(x, kernel), INPUT_GRADIENT(dy, kernel) and KERNEL_GRADIENT(x, dy), where dy is the gradient of the result.
Each is linear in both operands, and the gradient of each operand is again one of the three. Therefore derivatives of every
order exist, in forward and reverse mode, as for JAX's own convolution.

An operand may have one more axis in front, which the result has then too: it is a stack of convolutions, which are computed
one after the other. An operand without this axis is used by all of them. `jax.vmap` creates such an axis and copies nothing.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.layers.onednn.jax_private import Primitive, defbilinear, primitive_batchers, varying_axes
from jaxcnn.layers.onednn.library import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, Shape


class ConvSettings(NamedTuple):
    """Settings of a convolution, the same for its gradients."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    image: tuple[int, int]  # height and width of x
    kernel: tuple[int, int]  # height and width
    compute: Any  # dtype in which oneDNN computes; float32 is possible for bfloat16 operands, the result is bfloat16 then
    precision: jax.lax.PrecisionLike = None  # for XLA, if it computes

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        return tuple(
            (size + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1
            for size, pads, kernel, dilation, stride in zip(
                self.image, self.padding, self.kernel, self.dilation, self.strides, strict=True
            )
        )  # type: ignore[return-value]


def shape_of(x: Sequence[int], outputs: int, settings: ConvSettings) -> Shape:
    """Returns all sizes of a convolution of images of shape `x`, (N, H, W, C), with `outputs` features."""
    images, height, width, inputs = x
    s = settings
    return Shape(images, height, width, inputs, outputs, s.kernel, s.output, s.strides, s.padding, s.dilation, s.groups)


def convolution(x: jax.Array, kernel: jax.Array, settings: ConvSettings) -> jax.Array:
    """Returns the convolution of x (N, H, W, C) and kernel (h, w, C / groups, features): (N, H', W', features).

    All are float32 or all bfloat16.
    """
    return _bind(FORWARD, x, kernel, settings)


def reference(kind: int, settings: ConvSettings, a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes an operation by JAX's own convolution, or the transpose that JAX derives from it; without an axis in front."""

    def forward(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            settings.strides,
            settings.padding,
            rhs_dilation=settings.dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=settings.groups,
            precision=settings.precision,
        )

    if kind == FORWARD:
        return forward(a, b)
    result = jax.ShapeDtypeStruct(result_shape(kind, settings, a.shape, b.shape), a.dtype)
    if kind == INPUT_GRADIENT:
        return jax.linear_transpose(lambda x: forward(x, b), result)(a)[0]
    return jax.linear_transpose(lambda kernel: forward(a, kernel), result)(b)[0]


def result_shape(kind: int, settings: ConvSettings, a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of the result for operands of shapes a and b."""
    stack = a[:-4] or b[:-4]
    a, b = a[-4:], b[-4:]
    if kind == FORWARD:
        shape = (a[0], *settings.output, b[3])
    elif kind == INPUT_GRADIENT:
        shape = (a[0], *settings.image, b[2] * settings.groups)
    else:
        shape = (*settings.kernel, a[3] // settings.groups, b[3])
    return (*stack, *shape)


def _abstract(kind: int, a: Any, b: Any, *, settings: ConvSettings) -> Any:
    shape = result_shape(kind, settings, a.shape, b.shape)
    return a.update(shape=shape, weak_type=False, sharding=NamedSharding(a.sharding.mesh, P(*[None] * len(shape))))


def _bind(kind: int, a: jax.Array, b: jax.Array, settings: ConvSettings) -> jax.Array:
    # Inside shard_map JAX requires that both operands vary over the same axes of the mesh.
    over_a, over_b = (varying_axes(array) for array in (a, b))
    if over_b - over_a:
        a = jax.lax.pcast(a, tuple(over_b - over_a), to="varying")
    if over_a - over_b:
        b = jax.lax.pcast(b, tuple(over_a - over_b), to="varying")
    return PRIMITIVES[kind].bind(a, b, settings=settings)


# (operation, operand): the operation that computes the operand's gradient from the result's gradient and the other operand,
# and whether the result's gradient is its second operand
_GRADIENTS = {
    (FORWARD, 0): (INPUT_GRADIENT, False),
    (FORWARD, 1): (KERNEL_GRADIENT, True),
    (INPUT_GRADIENT, 0): (FORWARD, False),
    (INPUT_GRADIENT, 1): (KERNEL_GRADIENT, False),
    (KERNEL_GRADIENT, 0): (INPUT_GRADIENT, True),
    (KERNEL_GRADIENT, 1): (FORWARD, True),
}


def _gradient(kind: int, operand: int, gradient: jax.Array, a: Any, b: Any, *, settings: ConvSettings) -> jax.Array:
    """Returns the gradient of operand 0 or 1 of an operation, from the gradient of its result."""
    undefined, other = (b, a) if operand else (a, b)
    gradient_kind, gradient_is_second = _GRADIENTS[kind, operand]
    first, second = (other, gradient) if gradient_is_second else (gradient, other)
    result = _bind(gradient_kind, first, second, settings)
    return result.sum(0) if result.ndim > undefined.aval.ndim else result  # the operand was used by several convolutions


def _batch(
    kind: int, operands: Sequence[jax.Array], axes: Sequence[int | None], *, settings: ConvSettings
) -> tuple[jax.Array, int]:
    """The rule for `jax.vmap`: moves its axis to the front and merges it with the axis of an inner vmap, if one exists."""
    mapped = [axis is not None for axis in axes]
    a, b = (array if axis is None else jnp.moveaxis(array, axis, 0) for array, axis in zip(operands, axes, strict=True))
    stacked = [array.ndim - outer == 5 for array, outer in zip((a, b), mapped, strict=True)]
    if not any(stacked):
        return _bind(kind, a, b, settings), 0
    size, inner = (a if mapped[0] else b).shape[0], (a if stacked[0] else b).shape[-5]

    def merged(array: jax.Array, has_outer: bool, has_inner: bool) -> jax.Array:
        array = jnp.expand_dims(array, [axis for axis, exists in enumerate((has_outer, has_inner)) if not exists])
        rest = array.shape[2:]
        return jnp.broadcast_to(array, (size, inner, *rest)).reshape(size * inner, *rest)

    result = _bind(kind, merged(a, mapped[0], stacked[0]), merged(b, mapped[1], stacked[1]), settings)
    return result.reshape(size, inner, *result.shape[1:]), 0


@functools.cache
def _compiled(kind: int, settings: ConvSettings) -> Any:
    return jax.jit(functools.partial(PRIMITIVES[kind].bind, settings=settings))


def _make(kind: int, name: str) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(functools.partial(_abstract, kind))
    primitive.def_impl(lambda a, b, *, settings: _compiled(kind, settings)(a, b))
    defbilinear(primitive, functools.partial(_gradient, kind, 0), functools.partial(_gradient, kind, 1))
    primitive_batchers[primitive] = functools.partial(_batch, kind)
    return primitive


PRIMITIVES = (
    _make(FORWARD, "jaxcnn_convolution"),
    _make(INPUT_GRADIENT, "jaxcnn_convolution_input_gradient"),
    _make(KERNEL_GRADIENT, "jaxcnn_convolution_kernel_gradient"),
)

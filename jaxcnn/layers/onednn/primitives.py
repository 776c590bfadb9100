"""The convolution and its two gradients as operations of JAX.

These are F(x, kernel), the convolution, D(dy, kernel), the gradient of x, and W(x, dy), the gradient of the kernel. All are
linear in each operand, and an operand's gradient is one of the three again: so there are derivatives of every order, forward
and reverse, as of JAX's own convolution.

Each operand may have one more axis in front, and then the result has it: as many convolutions, one after the other, each
on its own slice; an operand without it serves them all. `jax.vmap` makes such an axis, without copying anything.
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
    """What the operands' shapes do not say."""

    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int
    image: tuple[int, int]  # height and width of x
    kernel: tuple[int, int]  # height and width
    compute: Any  # dtype in which oneDNN computes; operands and result may be bfloat16 where this is float32
    precision: jax.lax.PrecisionLike = None  # for XLA, where it computes after all

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of y."""
        return tuple(
            (size + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1
            for size, pads, kernel, dilation, stride in zip(
                self.image, self.padding, self.kernel, self.dilation, self.strides, strict=True
            )
        )  # type: ignore[return-value]


def shape_of(x: Sequence[int], outputs: int, settings: ConvSettings) -> Shape:
    """All sizes of the convolution of images of shape `x`, (N, H, W, C)."""
    images, height, width, inputs = x
    s = settings
    return Shape(images, height, width, inputs, outputs, s.kernel, s.output, s.strides, s.padding, s.dilation, s.groups)


def convolution(x: jax.Array, kernel: jax.Array, settings: ConvSettings) -> jax.Array:
    """(N, H, W, C), (h, w, C / groups, features) -> (N, H', W', features), all of one dtype."""
    return _bind(FORWARD, x, kernel, settings)


def reference(kind: int, settings: ConvSettings, a: jax.Array, b: jax.Array) -> jax.Array:
    """The same by jax.lax: its convolution and what its own differentiation makes of that. No axis in front."""

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
    """Of operands of shapes a and b."""
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
    # Inside shard_map both must be said to differ over the same axes of the mesh.
    over_a, over_b = (varying_axes(array) for array in (a, b))
    if over_b - over_a:
        a = jax.lax.pcast(a, tuple(over_b - over_a), to="varying")
    if over_a - over_b:
        b = jax.lax.pcast(b, tuple(over_a - over_b), to="varying")
    return PRIMITIVES[kind].bind(a, b, settings=settings)


# (operation, operand) -> which operation gives that operand's gradient, of the result's gradient and of the other operand; and
# whether it takes the result's gradient as its second
_GRADIENTS = {
    (FORWARD, 0): (INPUT_GRADIENT, False),
    (FORWARD, 1): (KERNEL_GRADIENT, True),
    (INPUT_GRADIENT, 0): (FORWARD, False),
    (INPUT_GRADIENT, 1): (KERNEL_GRADIENT, False),
    (KERNEL_GRADIENT, 0): (INPUT_GRADIENT, True),
    (KERNEL_GRADIENT, 1): (FORWARD, True),
}


def _gradient(kind: int, operand: int, gradient: jax.Array, a: Any, b: Any, *, settings: ConvSettings) -> jax.Array:
    """That of operand 0 or 1 of an operation, by the gradient of its result."""
    of, other = (b, a) if operand else (a, b)
    by, second = _GRADIENTS[kind, operand]
    first, last = (other, gradient) if second else (gradient, other)
    result = _bind(by, first, last, settings)
    return result.sum(0) if result.ndim > of.aval.ndim else result  # where one operand served several convolutions


def _batch(
    kind: int, operands: Sequence[jax.Array], axes: Sequence[int | None], *, settings: ConvSettings
) -> tuple[jax.Array, int]:
    """`jax.vmap` of an operation: its axis goes to the front, merged with the one that a vmap within has put there."""
    mapped = [axis is not None for axis in axes]
    a, b = (array if axis is None else jnp.moveaxis(array, axis, 0) for array, axis in zip(operands, axes, strict=True))
    stacked = [array.ndim - outer == 5 for array, outer in zip((a, b), mapped, strict=True)]
    if not any(stacked):
        return _bind(kind, a, b, settings), 0
    size, inner = (a if mapped[0] else b).shape[0], (a if stacked[0] else b).shape[-5]

    def merged(array: jax.Array, outer: bool, there: bool) -> jax.Array:
        array = jnp.expand_dims(array, [axis for axis, has in enumerate((outer, there)) if not has])
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

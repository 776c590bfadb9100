"""Maximum pooling as an operation of JAX, (N, H, W, C) -> (N, H', W', C).

The operation also returns the position of each maximum in its window, 0 to size² - 1 row by row, as uint8. Its derivatives are
two linear operations, each of which is the transpose of the other: `_gather` takes the value at a given position from each
window, and `_scatter` adds one value per window to an image of zeros, at a given position of the window.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers.onednn.jax_private import Zero, instantiate_zeros, primitive_jvps, primitive_transposes
from jaxcnn.layers.onednn.library import POOL_TARGET
from jaxcnn.layers.onednn.operations import can_use_handler, operation


class PoolSettings(NamedTuple):
    """Settings of a maximum pool."""

    size: int  # height and width of a window, at most 15
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
    image: tuple[int, int]  # height and width of x

    def to_array(self) -> np.ndarray:
        """Returns the settings as the handler receives them, int64 (4,); it finds the others from shapes."""
        return np.asarray([self.size, self.stride, self.padding[0][0], self.padding[1][0]], np.int64)

    @property
    def output(self) -> tuple[int, ...]:
        """Height and width of the result."""
        return tuple((n + sum(pads) - self.size) // self.stride + 1 for n, pads in zip(self.image, self.padding, strict=True))

    def windows(self, x: jax.Array, fill: float) -> Iterator[jax.Array]:
        """Yields, per position in a window, the values of all windows there, (N, H', W', C); `fill` is the padding's value."""
        padded = jax.lax.pad(x, jnp.array(fill, x.dtype), ((0, 0, 0), *((*pads, 0) for pads in self.padding), (0, 0, 0)))
        rows, columns = ((n - 1) * self.stride + 1 for n in self.output)
        for i, j in np.ndindex(self.size, self.size):
            yield padded[:, i : i + rows : self.stride, j : j + columns : self.stride]


def maximum_of_windows(x: jax.Array, size: int, stride: int, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """Returns the maximum of each size × size window, (N, H, W, C) -> (N, H', W', C) in the dtype of x.

    `padding` is ((top, bottom), (left, right)); padding is never the maximum. `size` is at most 15. The gradient goes to the
    first of equal maxima. NaN counts as greater than all numbers.
    """
    (top, bottom), (left, right) = padding
    settings = PoolSettings(size, stride, ((top, bottom), (left, right)), (x.shape[1], x.shape[2]))
    return (_max_pool.bind if can_use_handler(x) else _max_pool_by_jax)(x, settings=settings)[0]


def _max_pool_by_jax(x: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array, jax.Array]:
    first, *others = settings.windows(x, -jnp.inf)
    y, position = first, jnp.zeros(first.shape, jnp.uint8)
    for k, values in enumerate(others, start=1):
        greater = (values > y) | (values != values)  # or NaN
        y, position = jnp.where(greater, values, y), jnp.where(greater, jnp.uint8(k), position)
    return y, position


def _gather_by_jax(x: jax.Array, position: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array]:
    y = jnp.zeros(position.shape, x.dtype)
    for k, values in enumerate(settings.windows(x, 0)):
        y = jnp.where(position == jnp.uint8(k), values, y)
    return (y,)


def _scatter_by_jax(gradient: jax.Array, position: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array]:
    images = jax.ShapeDtypeStruct((gradient.shape[0], *settings.image, gradient.shape[3]), gradient.dtype)
    return (jax.linear_transpose(lambda x: _gather_by_jax(x, position, settings=settings)[0], images)(gradient)[0],)


def _like_results(x: Any, *positions: Any, settings: PoolSettings) -> list[tuple]:
    shape = (x.shape[0], *settings.output, x.shape[3])
    return [(shape, x.dtype)] if positions else [(shape, x.dtype), (shape, jnp.uint8)]


def _like_images(gradient: Any, position: Any, *, settings: PoolSettings) -> list[tuple]:
    return [((gradient.shape[0], *settings.image, gradient.shape[3]), gradient.dtype)]


_max_pool = operation("jaxcnn_max_pool", POOL_TARGET, _max_pool_by_jax, _like_results)
_gather = operation("jaxcnn_gather_from_windows", "", _gather_by_jax, _like_results)
_scatter = operation("jaxcnn_scatter_to_windows", POOL_TARGET, _scatter_by_jax, _like_images)


def _max_pool_jvp(primals: Any, tangents: Any, *, settings: PoolSettings) -> tuple:
    y, position = _max_pool.bind(*primals, settings=settings)
    tangent = _gather.bind(instantiate_zeros(tangents[0]), position, settings=settings)
    return (y, position), (*tangent, Zero(jax.typeof(position).to_tangent_aval()))


def _register_linear(primitive: Any, transpose: Any) -> None:
    """Registers the derivatives of an operation that is linear in its first operand; its second is the positions."""

    def transposed(gradients: Any, x: Any, position: Any, *, settings: PoolSettings) -> tuple:
        return (*transpose.bind(instantiate_zeros(gradients[0]), position, settings=settings), None)

    def jvp(primals: Any, tangents: Any, *, settings: PoolSettings) -> tuple:
        x, position = primals
        result = primitive.bind(x, position, settings=settings)
        return result, primitive.bind(instantiate_zeros(tangents[0]), position, settings=settings)

    primitive_jvps[primitive] = jvp
    primitive_transposes[primitive] = transposed


primitive_jvps[_max_pool] = _max_pool_jvp
_register_linear(_gather, _scatter)
_register_linear(_scatter, _gather)

"""The maximum of windows as an operation, (N, H, W, C) -> (N, H', W', C), with the gradient that goes where it was found.

It gives the places too, as a position in each window. Two more operations are linear, and each the other's transpose: `taken`
takes from each window what lies there, and `put` puts it back there, and sums where windows overlap.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers.onednn.jax_private import Zero, instantiate_zeros, primitive_jvps, primitive_transposes
from jaxcnn.layers.onednn.library import POOL_TARGET
from jaxcnn.layers.onednn.operations import for_handler, operation


class PoolSettings(NamedTuple):
    """Windows of size × size positions, at most 15 × 15, and what is around the images, of height and width `image`."""

    size: int
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]
    image: tuple[int, int]

    def numbers(self) -> np.ndarray:
        """As the handler is told."""
        return np.asarray([self.size, self.stride, self.padding[0][0], self.padding[1][0]], np.int64)

    @property
    def output(self) -> tuple[int, ...]:
        """Height and width of the result."""
        return tuple((n + sum(pads) - self.size) // self.stride + 1 for n, pads in zip(self.image, self.padding, strict=True))

    def windows(self, x: jax.Array, fill: float) -> Iterator[jax.Array]:
        """Of each position of the windows, what all of them see there; `fill` is around the images."""
        padded = jax.lax.pad(x, jnp.array(fill, x.dtype), ((0, 0, 0), *((*pads, 0) for pads in self.padding), (0, 0, 0)))
        rows, columns = ((n - 1) * self.stride + 1 for n in self.output)
        for i, j in np.ndindex(self.size, self.size):
            yield padded[:, i : i + rows : self.stride, j : j + columns : self.stride]


def maximum_of_windows(x: jax.Array, size: int, stride: int, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """Returns the maximum of each size × size window, (N, H, W, C) -> (N, H', W', C) in the dtype of x.

    `padding` is ((top, bottom), (left, right)); padding is never the maximum. `size` is at most 15. The gradient goes to the
    first of equal maxima. NaN is greater than all numbers.
    """
    (top, bottom), (left, right) = padding
    settings = PoolSettings(size, stride, ((top, bottom), (left, right)), (x.shape[1], x.shape[2]))
    return (_greatest.bind if for_handler(x) else _greatest_by_jax)(x, settings=settings)[0]


def _greatest_by_jax(x: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array, jax.Array]:
    first, *others = settings.windows(x, -jnp.inf)
    y, place = first, jnp.zeros(first.shape, jnp.uint8)
    for k, part in enumerate(others, start=1):
        better = (part > y) | (part != part)
        y, place = jnp.where(better, part, y), jnp.where(better, jnp.uint8(k), place)
    return y, place


def _taken_by_jax(x: jax.Array, place: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array]:
    y = jnp.zeros(place.shape, x.dtype)
    for k, part in enumerate(settings.windows(x, 0)):
        y = jnp.where(place == jnp.uint8(k), part, y)
    return (y,)


def _put_by_jax(gradient: jax.Array, place: jax.Array, *, settings: PoolSettings) -> tuple[jax.Array]:
    images = jax.ShapeDtypeStruct((gradient.shape[0], *settings.image, gradient.shape[3]), gradient.dtype)
    return (jax.linear_transpose(lambda x: _taken_by_jax(x, place, settings=settings)[0], images)(gradient)[0],)


def _like_results(x: Any, *places: Any, settings: PoolSettings) -> list[tuple]:
    shape = (x.shape[0], *settings.output, x.shape[3])
    return [(shape, x.dtype)] if places else [(shape, x.dtype), (shape, jnp.uint8)]


def _like_images(gradient: Any, place: Any, *, settings: PoolSettings) -> list[tuple]:
    return [((gradient.shape[0], *settings.image, gradient.shape[3]), gradient.dtype)]


_greatest = operation("jaxcnn_max_pool", POOL_TARGET, _greatest_by_jax, _like_results)
_taken = operation("jaxcnn_taken_from_windows", "", _taken_by_jax, _like_results)
_put = operation("jaxcnn_put_into_windows", POOL_TARGET, _put_by_jax, _like_images)


def _differentiated(primals: Any, tangents: Any, *, settings: PoolSettings) -> tuple:
    y, place = _greatest.bind(*primals, settings=settings)
    tangent = _taken.bind(instantiate_zeros(tangents[0]), place, settings=settings)
    return (y, place), (*tangent, Zero(jax.typeof(place).to_tangent_aval()))


def _transposed(other: Any) -> Any:
    def rule(gradients: Any, x: Any, place: Any, *, settings: PoolSettings) -> tuple:
        return (*other.bind(instantiate_zeros(gradients[0]), place, settings=settings), None)

    return rule


def _linear(primitive: Any, other: Any) -> None:
    def rule(primals: Any, tangents: Any, *, settings: PoolSettings) -> tuple:
        x, place = primals
        result = primitive.bind(x, place, settings=settings)
        return result, primitive.bind(instantiate_zeros(tangents[0]), place, settings=settings)

    primitive_jvps[primitive] = rule
    primitive_transposes[primitive] = _transposed(other)


primitive_jvps[_greatest] = _differentiated
_linear(_taken, _put)
_linear(_put, _taken)

"""What the operations share: a number an example, and the way back from float32 to the images' own type."""

import jax
import jax.numpy as jnp


def each(values: jax.Array) -> jax.Array:
    """(N,) -> (N, 1, 1, 1), to stand beside images."""
    return values[:, None, None, None]


def is_whole(images: jax.Array) -> bool:
    """Whether pixels are whole numbers, so that every operation ends on whole numbers, as Pillow's do."""
    return jnp.issubdtype(images.dtype, jnp.integer)


def like(values: jax.Array, images: jax.Array) -> jax.Array:
    """`values` cut off at 0 and 255, in the type of `images`; fractions are cut off too where that is of whole numbers."""
    return jnp.clip(values, 0, 255).astype(images.dtype)


def like_rounded(values: jax.Array, images: jax.Array) -> jax.Array:
    """`like`, but to the nearest whole number."""
    return like(values + 0.5 if is_whole(images) else values, images)


def first_that_fits(fits: jax.Array, *values: jax.Array) -> tuple[jax.Array, ...]:
    """Of T candidates an example, (N, T) each, the first that fits; then whether there was one: (N,) each."""
    first = jnp.argmax(fits, axis=1)[:, None]
    return (*(jnp.take_along_axis(v, first, axis=1)[:, 0] for v in values), fits.any(axis=1))

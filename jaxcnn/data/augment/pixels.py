"""Helpers of the operations: broadcasting one value per image, and conversion from float32 to the dtype of the images."""

import jax
import jax.numpy as jnp


def per_image(values: jax.Array) -> jax.Array:
    """Reshapes (N,) to (N, 1, 1, 1), which broadcasts against images."""
    return values[:, None, None, None]


def is_integer(images: jax.Array) -> bool:
    """Returns whether the images are of an integer type, so that operations round their results as Pillow does."""
    return jnp.issubdtype(images.dtype, jnp.integer)


def clip_like(values: jax.Array, images: jax.Array) -> jax.Array:
    """Clips `values` to 0…255 and converts them to the dtype of `images`; an integer type truncates fractions."""
    return jnp.clip(values, 0, 255).astype(images.dtype)


def round_like(values: jax.Array, images: jax.Array) -> jax.Array:
    """Does the same as `clip_like`, but rounds to the nearest integer if the images are of an integer type."""
    return clip_like(values + 0.5 if is_integer(images) else values, images)


def first_fitting(fits: jax.Array, *values: jax.Array) -> tuple[jax.Array, ...]:
    """Returns each example's first candidate for which `fits` (N, T) is true, and whether there is one.

    `values` are (N, T) each, the results (N,) each. An example without a fitting candidate gets its first one.
    """
    first = jnp.argmax(fits, axis=1)[:, None]
    return (*(jnp.take_along_axis(v, first, axis=1)[:, 0] for v in values), fits.any(axis=1))

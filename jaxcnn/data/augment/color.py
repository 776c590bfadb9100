"""Color operations at given strengths, as in Pillow's ImageEnhance and ImageOps.

Images are (N, H, W, C) with values 0…255, strengths are (N,) float32. Images of one channel are gray: saturation, hue and
grayscale leave them unchanged. For other numbers of channels than one and three these operations raise UserError, and contrast
uses the mean of the channels as the gray level. random_color.py draws the strengths.
"""

import functools

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.pixels import clip_like, is_integer, per_image, round_like
from jaxcnn.errors import UserError


def blend(degenerate: jax.Array, images: jax.Array, factor: jax.Array) -> jax.Array:
    """Interpolates from `degenerate` (factor 0) to `images` (factor 1); larger factors extrapolate.

    `degenerate` broadcasts to the shape of `images`; `factor` is (N,).
    """
    return clip_like(degenerate + per_image(factor) * (images.astype(jnp.float32) - degenerate), images)


def check_colors(images: jax.Array) -> None:
    """Raises UserError if the images are neither gray nor RGB."""
    if images.shape[3] not in (1, 3):
        raise UserError(
            "data.augment: operations that change colors (saturation, hue, grayscale, color_jitter, and policies such as "
            f"rand_augment) need images with 1 or 3 channels, but these have {images.shape[3]}"
        )


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the brightness: factor 0 gives black, 1 the original image."""
    return blend(jnp.zeros((1, 1, 1, 1)), images, factor)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the contrast: factor 0 gives the image's mean gray level everywhere, 1 the original image."""
    return blend(mean_gray(images), images, factor)


def saturation(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the saturation: factor 0 gives a gray image, 1 the original image."""
    check_colors(images)
    return blend(gray_levels(images), images, factor)


def sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Scales the sharpness: factor 0 gives a smoothed image, 1 the original image."""
    return blend(smooth(images), images, factor)


def gray_levels(images: jax.Array) -> jax.Array:
    """Returns the luma of ITU-R 601, (N, H, W, 1) float32, rounded to integers if the images are of an integer type."""
    floats = images.astype(jnp.float32)
    if images.shape[3] != 3:
        levels = floats.mean(axis=3, keepdims=True)
        return jnp.floor(levels + 0.5) if is_integer(images) else levels
    red, green, blue = jnp.split(floats, 3, axis=3)
    levels = 19595 * red + 38470 * green + 7471 * blue  # Pillow's weights, which sum to 65536; exact in float32
    return jnp.floor((levels + 32768) / 65536) if is_integer(images) else levels / 65536


def mean_gray(images: jax.Array) -> jax.Array:
    """Returns each image's mean gray level, (N, 1, 1, 1) float32, rounded if the images are of an integer type."""
    levels = gray_levels(images)
    if not is_integer(images):
        return levels.mean(axis=(1, 2, 3), keepdims=True)
    pixels = levels.shape[1] * levels.shape[2]
    total = levels.astype(jnp.int32).sum(axis=(1, 2, 3), keepdims=True)
    return ((2 * total + pixels) // (2 * pixels)).astype(jnp.float32)


def grayscale(images: jax.Array) -> jax.Array:
    """Removes the color; the number of channels is unchanged."""
    check_colors(images)
    return jnp.broadcast_to(clip_like(gray_levels(images), images), images.shape)


def smooth(images: jax.Array) -> jax.Array:
    """Applies Pillow's ImageFilter.SMOOTH, a 3×3 kernel with weights 5/13 (center) and 1/13. Returns float32.

    Border pixels are unchanged.
    """
    floats = images.astype(jnp.float32)
    height, width = images.shape[1:3]
    if height < 3 or width < 3:
        return floats
    rows = floats[:, :-2] + floats[:, 1:-1] + floats[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * floats[:, 1:-1, 1:-1]
    inner = jnp.floor(total / 13 + 0.5) if is_integer(images) else total / 13
    return floats.at[:, 1:-1, 1:-1].set(inner)


def hue(images: jax.Array, turn: jax.Array) -> jax.Array:
    """Rotates the hue by `turn` (N,), in fractions of the HSV color circle (-0.5…0.5)."""
    check_colors(images)
    if images.shape[3] == 1:
        return images
    red, green, blue = (images[..., i].astype(jnp.float32) for i in range(3))
    most = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = most - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma == 0, 1.0, chroma)
    sector = jnp.where(
        most == red,
        (green - blue) / divisor,
        jnp.where(most == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sector = sector + 6 * turn[:, None, None]

    def channel(offset: float) -> jax.Array:  # as in https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
        k = (offset + sector) % 6
        return most - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return round_like(jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=3), images)


def gaussian_blur(images: jax.Array, sigma: jax.Array, reach: int) -> jax.Array:
    """Convolves each image with a Gaussian of standard deviation `sigma` > 0 (N,) in pixels.

    The kernel extends `reach` pixels to each side of its center. Edge pixels are repeated beyond the border.
    """
    values = images.astype(jnp.float32)
    taps = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1, dtype=jnp.float32)[:, None] / sigma[None]) ** 2)
    taps = taps / taps.sum(axis=0, keepdims=True)
    for axis in (1, 2):
        size = values.shape[axis]
        padded = jnp.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="edge")
        shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * reach + 1))
        values = functools.reduce(jnp.add, (per_image(tap) * window for tap, window in zip(taps, shifted, strict=True)))
    return round_like(values, images)


def invert(images: jax.Array) -> jax.Array:
    """Inverts all values: v becomes 255 - v."""
    return 255 - images


def solarize(images: jax.Array, threshold: jax.Array) -> jax.Array:
    """Inverts the values of at least `threshold` (N,); 256 leaves the image unchanged."""
    return jnp.where(images.astype(jnp.float32) < per_image(threshold), images, 255 - images)


def posterize(images: jax.Array, bits: jax.Array) -> jax.Array:
    """Keeps the `bits` (N,) highest bits of each 8-bit value (0…8)."""
    step = per_image(2 ** (8 - bits))
    return clip_like(jnp.floor(images.astype(jnp.float32) / step) * step, images)


def autocontrast(images: jax.Array) -> jax.Array:
    """Stretches each channel so that its lowest value becomes 0 and its highest 255."""
    values = images.astype(jnp.float32)
    least, most = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    stretched = (values - least) * 255 / jnp.maximum(most - least, 1e-6)
    if is_integer(images):  # XLA may multiply by a reciprocal, which can round down; exact quotients are at least 1/255 apart
        stretched = stretched + 1 / 1024
    return clip_like(jnp.where(most > least, stretched, values), images)


def equalize(images: jax.Array) -> jax.Array:
    """Equalizes the histogram of each channel; floats are rounded to the nearest integer for it."""
    n, height, width, channels = images.shape
    values = jnp.round(images.astype(jnp.float32)).astype(jnp.int32).reshape(n, height * width, channels)
    bins = (values + 256 * jnp.arange(channels)[None, None]).reshape(n, -1)  # the channels' histograms, one after the other
    counts = jax.vmap(lambda bins: jnp.zeros(256 * channels, jnp.int32).at[bins].add(1))(bins).reshape(n, channels, 256)
    last = jnp.take_along_axis(counts, values.max(axis=1)[:, :, None], axis=2)
    step = (height * width - last) // 255
    below = jnp.cumsum(counts, axis=2) - counts
    table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255).astype(images.dtype).reshape(n, -1)
    mapped = jax.vmap(lambda table, bins: table[bins])(table, bins).reshape(images.shape)
    return jnp.where((step == 0).reshape(n, 1, 1, channels), images, mapped)

"""What pixels are worth: each operation at a given strength, as Pillow's ImageEnhance and ImageOps have it.

Images (N, H, W, C) of values 0…255, strengths (N,). One channel counts as grey, which saturation, hue and grayscale leave as it
is; other numbers than one and three have no colours to change, and the grey that contrast starts from is their mean.
random_color.py draws the strengths.
"""

import functools

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.pixels import each, is_whole, like, like_rounded
from jaxcnn.errors import UserError


def blend(degenerate: jax.Array, images: jax.Array, factor: jax.Array) -> jax.Array:
    """From `degenerate` (factor 0) to the images (1) and beyond. Broadcasts."""
    return like(degenerate + each(factor) * (images.astype(jnp.float32) - degenerate), images)


def check_colors(images: jax.Array) -> None:
    """Raises UserError where channels are neither grey nor RGB."""
    if images.shape[3] not in (1, 3):
        raise UserError(
            "data.augment: what changes colors (saturation, hue, grayscale, color_jitter, rand_augment and its kin) takes "
            f"images of 1 or 3 channels, but these have {images.shape[3]}"
        )


def brightness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """0 is black, 1 the image."""
    return blend(jnp.zeros((1, 1, 1, 1)), images, factor)


def contrast(images: jax.Array, factor: jax.Array) -> jax.Array:
    """0 is one grey, 1 the image."""
    return blend(mean_gray(images), images, factor)


def saturation(images: jax.Array, factor: jax.Array) -> jax.Array:
    """0 is without colour, 1 the image."""
    check_colors(images)
    return blend(gray_levels(images), images, factor)


def sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """0 is smoothed, 1 the image."""
    return blend(smooth(images), images, factor)


def gray_levels(images: jax.Array) -> jax.Array:
    """Luma of ITU-R 601: (N, H, W, 1) float32, whole where the images are."""
    floats = images.astype(jnp.float32)
    if images.shape[3] != 3:
        levels = floats.mean(axis=3, keepdims=True)
        return jnp.floor(levels + 0.5) if is_whole(images) else levels
    red, green, blue = jnp.split(floats, 3, axis=3)
    levels = 19595 * red + 38470 * green + 7471 * blue  # Pillow's weights of 65536; the sums are exact in float32
    return jnp.floor((levels + 32768) / 65536) if is_whole(images) else levels / 65536


def mean_gray(images: jax.Array) -> jax.Array:
    """Mean of the grey levels of each image: (N, 1, 1, 1) float32, whole where the images are."""
    levels = gray_levels(images)
    if not is_whole(images):
        return levels.mean(axis=(1, 2, 3), keepdims=True)
    pixels = levels.shape[1] * levels.shape[2]
    total = levels.astype(jnp.int32).sum(axis=(1, 2, 3), keepdims=True)
    return ((2 * total + pixels) // (2 * pixels)).astype(jnp.float32)


def grayscale(images: jax.Array) -> jax.Array:
    """Without colour, in as many channels."""
    check_colors(images)
    return jnp.broadcast_to(like(gray_levels(images), images), images.shape)


def smooth(images: jax.Array) -> jax.Array:
    """Pillow's ImageFilter.SMOOTH: 3×3, the middle of 13 parts 5; the border stays. float32."""
    floats = images.astype(jnp.float32)
    height, width = images.shape[1:3]
    if height < 3 or width < 3:
        return floats
    rows = floats[:, :-2] + floats[:, 1:-1] + floats[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * floats[:, 1:-1, 1:-1]
    inner = jnp.floor(total / 13 + 0.5) if is_whole(images) else total / 13
    return floats.at[:, 1:-1, 1:-1].set(inner)


def hue(images: jax.Array, turn: jax.Array) -> jax.Array:
    """Colours moved by `turn` (-0.5…0.5) of the colour circle of HSV."""
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

    return like_rounded(jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=3), images)


def gaussian_blur(images: jax.Array, sigma: jax.Array, reach: int) -> jax.Array:
    """Convolved with a Gaussian of standard deviation `sigma` > 0 (N,) pixels, cut off at `reach`; edge pixels are repeated."""
    values = images.astype(jnp.float32)
    taps = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1, dtype=jnp.float32)[:, None] / sigma[None]) ** 2)
    taps = taps / taps.sum(axis=0, keepdims=True)
    for axis in (1, 2):
        size = values.shape[axis]
        padded = jnp.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(4)], mode="edge")
        shifted = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * reach + 1))
        values = functools.reduce(jnp.add, (each(tap) * part for tap, part in zip(taps, shifted, strict=True)))
    return like_rounded(values, images)


def invert(images: jax.Array) -> jax.Array:
    """The negative."""
    return 255 - images


def solarize(images: jax.Array, threshold: jax.Array) -> jax.Array:
    """Values from `threshold` on are inverted; 256 leaves all as they are."""
    return jnp.where(images.astype(jnp.float32) < each(threshold), images, 255 - images)


def posterize(images: jax.Array, bits: jax.Array) -> jax.Array:
    """Only the `bits` (0…8) highest bits of each value are kept."""
    step = each(2 ** (8 - bits))
    return like(jnp.floor(images.astype(jnp.float32) / step) * step, images)


def autocontrast(images: jax.Array) -> jax.Array:
    """Each channel stretched so that its least value becomes 0 and its greatest 255."""
    values = images.astype(jnp.float32)
    least, most = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    stretched = (values - least) * 255 / jnp.maximum(most - least, 1e-6)
    if is_whole(images):  # XLA may divide by way of the reciprocal; two quotients are at least 1/255 apart
        stretched = stretched + 1 / 1024
    return like(jnp.where(most > least, stretched, values), images)


def equalize(images: jax.Array) -> jax.Array:
    """Each channel's values mapped so that their histogram becomes flat; floats count as the nearest whole value."""
    n, height, width, channels = images.shape
    values = jnp.round(images.astype(jnp.float32)).astype(jnp.int32).reshape(n, height * width, channels)
    bins = (values + 256 * jnp.arange(channels)[None, None]).reshape(n, -1)  # of all channels, one after the other
    counts = jax.vmap(lambda bins: jnp.zeros(256 * channels, jnp.int32).at[bins].add(1))(bins).reshape(n, channels, 256)
    last = jnp.take_along_axis(counts, values.max(axis=1)[:, :, None], axis=2)
    step = (height * width - last) // 255
    below = jnp.cumsum(counts, axis=2) - counts
    table = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255).astype(images.dtype).reshape(n, -1)
    mapped = jax.vmap(lambda table, bins: table[bins])(table, bins).reshape(images.shape)
    return jnp.where((step == 0).reshape(n, 1, 1, channels), images, mapped)

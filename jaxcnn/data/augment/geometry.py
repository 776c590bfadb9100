"""Geometric operations: crops, flips, and affine warps (translation, rotation, scale, shear).

`affine` warps with given matrices; the random operations draw them. A matrix (2, 3) maps a position (x, y, 1) in the result
to the position in the input image, as in Pillow's Image.transform. The center of the first pixel is at (0.5, 0.5). All
operations accept images (N, H, W, C) or a Scene, whose segmentation maps and bounding boxes are transformed with the pixels.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.pixels import clip_like, first_fitting, per_image, round_like
from jaxcnn.data.augment.scene import Moved, from_corners, moved, nearest
from jaxcnn.data.augment.settings import AreaRange, Interpolation, Level, Pixels, PositiveRange, Probability, Size
from jaxcnn.data.sizes import height_and_width
from jaxcnn.errors import UserError
from jaxcnn.settings import NotNegative

_TRIES = 10  # candidates for a random box, as in torchvision


def horizontal_flip(images: Moved, key: jax.Array, *, p: Probability = 0.5) -> Moved:
    """Mirrors each image left to right with probability `p`."""
    return flipped(images, jax.random.bernoulli(key, p, images.shape[:1]), 2)


def vertical_flip(images: Moved, key: jax.Array, *, p: Probability = 0.5) -> Moved:
    """Mirrors each image top to bottom with probability `p`."""
    return flipped(images, jax.random.bernoulli(key, p, images.shape[:1]), 1)


def alternating_flip(images: Moved, run_key: jax.Array, index: jax.Array, epoch: jax.Array) -> Moved:
    """Mirrors each image left to right in every other epoch, so that two consecutive epochs contain both versions.

    Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. arXiv:2404.00498, section 3.6. The run's key and an image's index
    in the training set decide whether it is mirrored in even or in odd epochs. `index` and `epoch` are (N,) integers.
    """
    first = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(run_key, i)))(index)
    return flipped(images, first ^ (epoch % 2 == 1), 2)


def flipped(images: Moved, chosen: jax.Array, axis: int) -> Moved:
    """Mirrors the images selected by the mask `chosen` (N,) along `axis` (1: height, 2: width)."""

    def matrices() -> jax.Array:
        mirrored = chosen.astype(jnp.float32)
        zero, sign, end = jnp.zeros_like(mirrored), 1 - 2 * mirrored, mirrored * images.shape[axis]
        return crop_matrices(zero, end, zero + 1, sign) if axis == 2 else crop_matrices(end, zero, sign, zero + 1)

    return moved(images, matrices, lambda pixels: jnp.where(per_image(chosen), jnp.flip(pixels, axis), pixels))


def crop_matrices(top: jax.Array, left: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """Returns the matrices (N, 2, 3) of crops with the upper left corner (top, left) in pixels of the image.

    A pixel of the result covers `down` × `across` pixels of the image; negative values mirror. All arguments are (N,).
    """
    zero = jnp.zeros_like(across)
    return jnp.stack([jnp.stack([across, zero, left], axis=-1), jnp.stack([zero, down, top], axis=-1)], axis=-2)


def random_crop(
    images: Moved, key: jax.Array, *, pad: Pixels = 4, mode: Literal["constant", "reflect"] = "constant", size: Size = 0
) -> Moved:
    """Pads each side by `pad` pixels and crops at a random position, to `size`: a side, (height, width), or 0 for the original.

    `mode` is "constant" (zeros; He et al. 2015, section 4.2) or "reflect" (Wide ResNet). Padding is VOID in segmentation maps.
    Raises UserError if the padded images are smaller than `size`.
    """
    number, old_height, old_width, channels = images.shape
    height, width = height_and_width(size or (old_height, old_width))
    spare = (old_height + 2 * pad - height, old_width + 2 * pad - width)
    if min(spare) < 0:
        padded_by = f", padded by {pad}," if pad else ""
        raise UserError(
            f"data.augment: random_crop: images of {old_height}×{old_width} pixels{padded_by} are smaller than {height}×{width}"
        )

    def offsets() -> jax.Array:
        return jax.random.randint(key, (number, 2), 0, jnp.array([spare]) + 1)

    def matrices() -> jax.Array:
        top, left = offsets().astype(jnp.float32).T - pad
        return crop_matrices(top, left, jnp.ones_like(top), jnp.ones_like(left))

    def pixels(images: jax.Array) -> jax.Array:
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)

        def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
            start = (offset[0], offset[1], jnp.zeros_like(offset[0]))
            return jax.lax.dynamic_slice(image, start, (height, width, channels))

        return jax.vmap(cut)(padded, offsets())

    return moved(images, matrices, pixels)


def random_resized_crop(
    images: Moved,
    key: jax.Array,
    *,
    size: Size = 0,
    area: AreaRange = (0.08, 1.0),
    aspect: PositiveRange = (3 / 4, 4 / 3),
    interpolation: Literal["linear", "cubic"] = "linear",
) -> Moved:
    """Crops a random region and resizes it, antialiased, to `size`: a side, (height, width), or 0 for the original size.

    Szegedy et al.: Going Deeper with Convolutions. CVPR 2015, section 6. `area` is the region's share of the image. `aspect`,
    drawn on a log scale, is its width over its height relative to the aspect ratio of `size`, so that 1 does not distort. For
    square sizes this is torchvision's definition. As in torchvision, the first of ten draws that fits is used, or else the
    largest central region whose aspect is allowed.
    """
    n, height, width, _ = images.shape
    size_h, size_w = height_and_width(size)
    size_h, size_w = size_h or height, size_w or width
    aspect = aspect[0] * (size_w / size_h), aspect[1] * (size_w / size_h)
    size_key, place_key = jax.random.split(key)
    h, w, fits = random_box(size_key, n, height, width, area, aspect)
    largest_h, largest_w = min(height, round(width / aspect[0])), min(width, round(height * aspect[1]))
    h, w = jnp.where(fits, h, largest_h), jnp.where(fits, w, largest_w)
    place = jnp.where(fits, jax.random.uniform(place_key, (2, n)), 0.5)
    top, left = jnp.floor(place[0] * (height - h + 1)), jnp.floor(place[1] * (width - w + 1))
    return resized_crop(images, (top, left, h, w), (size_h, size_w), interpolation)


def resized_crop(
    images: Moved, region: tuple[jax.Array, jax.Array, jax.Array, jax.Array], size: tuple[int, int], interpolation: str
) -> Moved:
    """Crops a region of each image and resizes it to `size` (height, width).

    `region` is (top, left, height, width) in pixels, (N,) float32 each.
    """
    top, left, height, width = region

    def resize(image, top, left, height, width):
        scale = jnp.stack([size[0] / height, size[1] / width])
        shape = (*size, image.shape[2])
        return jax.image.scale_and_translate(image, shape, (0, 1), scale, -jnp.stack([top, left]) * scale, interpolation)

    return moved(
        images,
        lambda: crop_matrices(top, left, height / size[0], width / size[1]),
        lambda pixels: round_like(jax.vmap(resize)(pixels.astype(jnp.float32), top, left, height, width), pixels),
    )


def random_box(
    key: jax.Array, n: int, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[jax.Array, ...]:
    """Draws `n` boxes. Returns heights and widths (N,) float32 in whole pixels, and whether they fit into height × width.

    `area` is the range of the box's share of the image, `aspect` the range of its width over its height.
    """
    low, high = jnp.array([[area[0], math.log(aspect[0])], [area[1], math.log(aspect[1])]], jnp.float32)[:, :, None, None]
    areas, logs = jax.random.uniform(key, (2, n, _TRIES), minval=low, maxval=high)
    areas, aspects = height * width * areas, jnp.exp(logs)
    h, w = jnp.round(jnp.sqrt(areas / aspects)), jnp.round(jnp.sqrt(areas * aspects))
    h, w, fits = first_fitting((h >= 1) & (w >= 1) & (h <= height) & (w <= width), h, w)
    return h, w, fits


def rotate(
    images: Moved,
    key: jax.Array,
    *,
    degrees: NotNegative = 15.0,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Rotates each image about its center by up to ± `degrees`."""
    return random_affine(images, key, degrees=degrees, interpolation=interpolation, fill=fill)


def translate(
    images: Moved,
    key: jax.Array,
    *,
    share: NotNegative = 0.1,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Translates each image by up to ± `share` of its width and of its height, rounded to whole pixels."""
    return random_affine(images, key, translate=share, interpolation=interpolation, fill=fill)


def scale(
    images: Moved,
    key: jax.Array,
    *,
    factor: PositiveRange = (0.8, 1.2),
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Zooms each image about its center by a factor drawn from the range `factor`; above 1 enlarges. The size is unchanged."""
    return random_affine(images, key, scale=factor, interpolation=interpolation, fill=fill)


def shear(
    images: Moved,
    key: jax.Array,
    *,
    slope: NotNegative = 0.1,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Shears each image along x, about its center, by up to ± `slope` pixels per row."""
    return random_affine(images, key, shear=slope, interpolation=interpolation, fill=fill)


def random_affine(
    images: Moved,
    key: jax.Array,
    *,
    degrees: NotNegative = 0.0,
    translate: NotNegative = 0.0,
    scale: PositiveRange = (1.0, 1.0),
    shear: NotNegative = 0.0,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Combines `rotate`, `translate`, `scale` and `shear` in one warp, so that pixels are interpolated only once."""
    matrices = draw_affine(images.shape, key, degrees=degrees, translate=translate, scale=scale, shear=shear)
    return affine(images, matrices, interpolation=interpolation, fill=fill)


def draw_affine(
    shape: tuple[int, ...], key: jax.Array, *, degrees: float, translate: float, scale: tuple[float, float], shear: float
) -> jax.Array:
    """Draws the matrices (N, 2, 3) of `random_affine` for images of the given shape (N, H, W, C)."""
    n, height, width, _ = shape
    keys = jax.random.split(key, 4)

    def between(key, most, shape=(n,)):
        return jax.random.uniform(key, shape, minval=-most, maxval=most)

    angle, slope = jnp.radians(between(keys[0], degrees)), between(keys[1], shear)
    factor = jax.random.uniform(keys[2], (n,), minval=scale[0], maxval=scale[1])
    shift = jnp.round(between(keys[3], translate, (n, 2)) * jnp.array([[width, height]], jnp.float32))
    rotation = jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(n, 2, 2)
    sheared = jnp.stack([rotation[:, :, 0], rotation[:, :, 1] + slope[:, None] * rotation[:, :, 0]], axis=-1)
    return about_center(sheared / factor[:, None, None], height, width, shift)


def about_center(linear: jax.Array, height: int, width: int, shift: jax.Array) -> jax.Array:
    """Extends linear maps (N, 2, 2) to matrices (N, 2, 3) that move the image's center by `shift` (N, 2), x and y in pixels."""
    center = jnp.array([[width / 2, height / 2]], jnp.float32)
    offset = center - jnp.einsum("nij,nj->ni", linear, center + shift)
    return jnp.concatenate([linear, offset[:, :, None]], axis=2)


def affine(images: Moved, matrices: jax.Array, *, interpolation: str = "nearest", fill: int = 0) -> Moved:
    """Warps each image (N, H, W, C) by its matrix (N, 2, 3), as Pillow's Image.transform does.

    Pixels of the result that map to positions outside the image are set to `fill`. `interpolation` is "nearest" or "bilinear";
    "bilinear" repeats the border's pixels within the half pixel beyond their centers.
    """
    return moved(images, lambda: matrices, lambda pixels: _warped(pixels, matrices, interpolation, fill))


def _warped(images: jax.Array, matrices: jax.Array, interpolation: str, fill: int) -> jax.Array:
    n, height, width, channels = images.shape
    flat = images.reshape(n, height * width, channels)

    def at(y, x):
        index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
        return jax.vmap(lambda pixels, index: pixels[index])(flat, index.reshape(n, -1)).reshape(images.shape)

    if interpolation == "nearest":
        x, y = nearest(matrices, height, width)
        warped = at(y, x)
    else:
        columns, rows = jnp.arange(width)[None, None], jnp.arange(height)[None, :, None]
        m = from_corners(matrices)[:, :, :, None, None]
        x, y = (m[:, i, 0] * columns.astype(jnp.float32) + m[:, i, 1] * rows.astype(jnp.float32) + m[:, i, 2] for i in (0, 1))
        left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
        dx, dy = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
        column, row = left.astype(jnp.int32), top.astype(jnp.int32)
        a, b, c, d = (at(row + i, column + j).astype(jnp.float32) for i in (0, 1) for j in (0, 1))
        upper, lower = a + (b - a) * dx, c + (d - c) * dx
        warped = clip_like(upper + (lower - upper) * dy, images)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside[..., None], warped, jnp.array(fill, images.dtype))

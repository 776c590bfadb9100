"""Where pixels go: crops, flips, and affine warps (translation, rotation, scale, shear).

`affine` warps with given matrices; the operations above it draw them. A matrix (2, 3) takes a place (x, y, 1) in the result
to its place in the image, as Pillow's Image.transform has it; the centre of the first pixel is at (0.5, 0.5). All take images
(N, H, W, C), or a Scene: maps and boxes move with the pixels.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.pixels import each, first_that_fits, like, like_rounded
from jaxcnn.data.augment.scene import Moved, from_corners, moved, nearest
from jaxcnn.data.augment.settings import Interpolation, Level, PartRange, Pixels, PositiveRange, Probability, Size
from jaxcnn.data.sizes import height_and_width
from jaxcnn.settings import NotNegative

_TRIES = 10  # candidates for a random box, as torchvision has it


def horizontal_flip(images: Moved, key: jax.Array, *, p: Probability = 0.5) -> Moved:
    """Mirrors each image left to right with probability `p`. (N, H, W, C)."""
    return flipped(images, jax.random.bernoulli(key, p, images.shape[:1]), 2)


def vertical_flip(images: Moved, key: jax.Array, *, p: Probability = 0.5) -> Moved:
    """Turns each image upside down, as a mirror does, with probability `p`. (N, H, W, C)."""
    return flipped(images, jax.random.bernoulli(key, p, images.shape[:1]), 1)


def alternating_flip(images: Moved, run_key: jax.Array, index: jax.Array, epoch: jax.Array) -> Moved:
    """Mirrors each image in every other epoch; the run's key and its index decide whether in the even ones or in the odd.

    Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. arXiv:2404.00498, section 3.6. So two epochs in a row see
    each image both ways. Images (N, H, W, C); index and epoch (N,) integers.
    """
    first = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(run_key, i)))(index)
    return flipped(images, first ^ (epoch % 2 == 1), 2)


def flipped(images: Moved, chosen: jax.Array, axis: int) -> Moved:
    """Those of `chosen` (N,) mirrored along `axis`."""

    def matrices() -> jax.Array:
        back = chosen.astype(jnp.float32)
        zero, sign, end = jnp.zeros_like(back), 1 - 2 * back, back * images.shape[axis]
        return part_matrices(zero, end, zero + 1, sign) if axis == 2 else part_matrices(end, zero, sign, zero + 1)

    return moved(images, matrices, lambda pixels: jnp.where(each(chosen), jnp.flip(pixels, axis), pixels))


def part_matrices(top: jax.Array, left: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """(N, 2, 3) for a part that begins at (top, left) and has `down` by `across` pixels of the image per pixel, (N,) each."""
    zero = jnp.zeros_like(across)
    return jnp.stack([jnp.stack([across, zero, left], axis=-1), jnp.stack([zero, down, top], axis=-1)], axis=-2)


def random_crop(images: Moved, key: jax.Array, *, pad: Pixels = 4, mode: Literal["constant", "reflect"] = "constant") -> Moved:
    """Pads each side by `pad` pixels and cuts the old size out at a random place. (N, H, W, C).

    `mode` is "constant" (zeros; He et al. 2015, section 4.2) or "reflect" (Wide ResNet). In maps, what is padded is void.
    """

    def offsets() -> jax.Array:
        return jax.random.randint(key, (images.shape[0], 2), 0, 2 * pad + 1)

    def matrices() -> jax.Array:
        top, left = offsets().astype(jnp.float32).T - pad
        return part_matrices(top, left, jnp.ones_like(top), jnp.ones_like(left))

    def pixels(images: jax.Array) -> jax.Array:
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode=mode)

        def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(image, (offset[0], offset[1], jnp.zeros_like(offset[0])), images.shape[1:])

        return jax.vmap(cut)(padded, offsets())

    return moved(images, matrices, pixels)


def random_resized_crop(
    images: Moved,
    key: jax.Array,
    *,
    size: Size = 0,
    area: PartRange = (0.08, 1.0),
    aspect: PositiveRange = (3 / 4, 4 / 3),
    interpolation: Literal["linear", "cubic"] = "linear",
) -> Moved:
    """Cuts out a random part and brings it to `size`, a side or (height, width) (0: the old size), antialiased. (N, H, W, C).

    Szegedy et al.: Going Deeper with Convolutions. CVPR 2015, section 6. `area` is the part's share of the image, `aspect`
    its width over its height relative to the ratio of `size`, so that 1 distorts nothing (torchvision's is the same for
    squares alone), on a log scale. As in torchvision, the first of ten draws that fits is taken, or else the largest part in
    the middle whose aspect is allowed.
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
    return resized_part(images, (top, left, h, w), (size_h, size_w), interpolation)


def resized_part(
    images: Moved, part: tuple[jax.Array, jax.Array, jax.Array, jax.Array], size: tuple[int, int], interpolation: str
) -> Moved:
    """A part of each image, (top, left, height, width) in pixels, (N,) float32 each, brought to `size`."""
    top, left, height, width = part

    def resize(image, top, left, height, width):
        scale = jnp.stack([size[0] / height, size[1] / width])
        shape = (*size, image.shape[2])
        return jax.image.scale_and_translate(image, shape, (0, 1), scale, -jnp.stack([top, left]) * scale, interpolation)

    return moved(
        images,
        lambda: part_matrices(top, left, height / size[0], width / size[1]),
        lambda pixels: like_rounded(jax.vmap(resize)(pixels.astype(jnp.float32), top, left, height, width), pixels),
    )


def random_box(
    key: jax.Array, n: int, height: int, width: int, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[jax.Array, ...]:
    """Heights and widths (N,) float32 of whole pixels, and whether they fit into height × width."""
    low, high = jnp.array([[area[0], math.log(aspect[0])], [area[1], math.log(aspect[1])]], jnp.float32)[:, :, None, None]
    areas, logs = jax.random.uniform(key, (2, n, _TRIES), minval=low, maxval=high)
    areas, aspects = height * width * areas, jnp.exp(logs)
    h, w = jnp.round(jnp.sqrt(areas / aspects)), jnp.round(jnp.sqrt(areas * aspects))
    h, w, fits = first_that_fits((h >= 1) & (w >= 1) & (h <= height) & (w <= width), h, w)
    return h, w, fits


def rotate(
    images: Moved,
    key: jax.Array,
    *,
    degrees: NotNegative = 15.0,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Turns each image about its centre by up to `degrees` either way. (N, H, W, C)."""
    return random_affine(images, key, degrees=degrees, interpolation=interpolation, fill=fill)


def translate(
    images: Moved,
    key: jax.Array,
    *,
    share: NotNegative = 0.1,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Moves each image by up to `share` of its width and of its height, whole pixels. (N, H, W, C)."""
    return random_affine(images, key, translate=share, interpolation=interpolation, fill=fill)


def scale(
    images: Moved,
    key: jax.Array,
    *,
    factor: PositiveRange = (0.8, 1.2),
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Enlarges what is in each image by a factor between the two, about its centre. (N, H, W, C)."""
    return random_affine(images, key, scale=factor, interpolation=interpolation, fill=fill)


def shear(
    images: Moved,
    key: jax.Array,
    *,
    slope: NotNegative = 0.1,
    interpolation: Interpolation = "bilinear",
    fill: Level = 0,
) -> Moved:
    """Shears each image along x, about its centre, by up to `slope` pixels a row either way. (N, H, W, C)."""
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
    """`shear`, `scale`, `rotate` and `translate` by one warp, so that pixels are interpolated once. (N, H, W, C)."""
    matrices = draw_affine(images.shape, key, degrees=degrees, translate=translate, scale=scale, shear=shear)
    return affine(images, matrices, interpolation=interpolation, fill=fill)


def draw_affine(
    shape: tuple[int, ...], key: jax.Array, *, degrees: float, translate: float, scale: tuple[float, float], shear: float
) -> jax.Array:
    """(N, 2, 3): the matrices of `random_affine` for images of this shape."""
    n, height, width, _ = shape
    keys = jax.random.split(key, 4)

    def between(key, most, shape=(n,)):
        return jax.random.uniform(key, shape, minval=-most, maxval=most)

    angle, slope = jnp.radians(between(keys[0], degrees)), between(keys[1], shear)
    factor = jax.random.uniform(keys[2], (n,), minval=scale[0], maxval=scale[1])
    shift = jnp.round(between(keys[3], translate, (n, 2)) * jnp.array([[width, height]], jnp.float32))
    turn = jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(n, 2, 2)
    sheared = jnp.stack([turn[:, :, 0], turn[:, :, 1] + slope[:, None] * turn[:, :, 0]], axis=-1)
    return about_center(sheared / factor[:, None, None], height, width, shift)


def about_center(linear: jax.Array, height: int, width: int, shift: jax.Array) -> jax.Array:
    """(N, 2, 2) -> (N, 2, 3): the same, but the image's centre stays, or comes to lie `shift` (N, 2) from there."""
    center = jnp.array([[width / 2, height / 2]], jnp.float32)
    offset = center - jnp.einsum("nij,nj->ni", linear, center + shift)
    return jnp.concatenate([linear, offset[:, :, None]], axis=2)


def affine(images: Moved, matrices: jax.Array, *, interpolation: str = "nearest", fill: int = 0) -> Moved:
    """Each image (N, H, W, C) warped by its matrix (N, 2, 3), as Pillow's Image.transform does it.

    Result places that lie outside of the image become `fill`; "bilinear" repeats the border's pixels for the half pixel
    beyond their centres.
    """
    return moved(images, lambda: matrices, lambda pixels: _warped(pixels, matrices, interpolation, fill))


def _warped(images: jax.Array, matrices: jax.Array, interpolation: str, fill: int) -> jax.Array:
    n, height, width, channels = images.shape
    flat = images.reshape(n, height * width, channels)

    def at(y, x):
        place = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
        return jax.vmap(lambda pixels, place: pixels[place])(flat, place.reshape(n, -1)).reshape(images.shape)

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
        warped = like(upper + (lower - upper) * dy, images)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return jnp.where(inside[..., None], warped, jnp.array(fill, images.dtype))

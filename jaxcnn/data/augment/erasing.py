"""Cutout and random erasing. Segmentation maps and bounding boxes are unchanged, also within the erased area."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.geometry import random_box
from jaxcnn.data.augment.pixels import clip_like
from jaxcnn.data.augment.settings import AreaRange, Level, PositiveRange, Probability
from jaxcnn.settings import Count


def cutout(images: jax.Array, key: jax.Array, *, size: Count = 16, fill: Level = 128) -> jax.Array:
    """Sets a `size`×`size` square of each image (N, H, W, C) to `fill`.

    DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout. arXiv:1708.04552, section 3.
    The center is a uniformly drawn pixel, so the square may extend beyond the border. The paper sets normalized pixels to 0,
    the mean. Here pixels are not yet normalized, hence the default of gray.
    """
    n, height, width, _ = images.shape
    top, left = (
        jax.random.randint(k, (n,), 0, m) - size // 2 for k, m in zip(jax.random.split(key), (height, width), strict=True)
    )
    return jnp.where(box(images, top, left, size, size), jnp.array(fill, images.dtype), images)


def random_erasing(
    images: jax.Array,
    key: jax.Array,
    *,
    p: Probability = 0.5,
    area: AreaRange = (0.02, 0.4),
    aspect: PositiveRange = (0.3, 1 / 0.3),
    fill: Literal["noise", "gray", "black"] = "noise",
) -> jax.Array:
    """Replaces a box of each image (N, H, W, C), with probability `p`, by uniform noise (0…255), gray (128) or black.

    Zhong et al.: Random Erasing Data Augmentation. AAAI 2020, arXiv:1708.04896, section 3.2. `area` is the box's share
    of the image; `aspect` is its width over its height, drawn on a log scale (linear in the paper). The first of ten draws
    that fits into the image is used. If none fits, nothing is erased.
    """
    n, height, width, _ = images.shape
    p_key, box_key, place_key, noise_key = jax.random.split(key, 4)
    h, w, fits = random_box(box_key, n, height, width, area, aspect)
    place = jax.random.uniform(place_key, (2, n))
    top, left = jnp.floor(place[0] * (height - h + 1)), jnp.floor(place[1] * (width - w + 1))
    erased = fits & jax.random.bernoulli(p_key, p, (n,))
    if fill == "noise":
        paint = clip_like(jax.random.uniform(noise_key, images.shape, maxval=256.0), images)
    else:
        paint = jnp.array({"gray": 128, "black": 0}[fill], images.dtype)
    return jnp.where(box(images, top, left, jnp.where(erased, h, 0.0), w), paint, images)


def box(images: jax.Array, top: jax.Array, left: jax.Array, height: jax.Array | int, width: jax.Array | int) -> jax.Array:
    """Returns a mask (N, H, W, 1) of the pixels inside each image's box, which is given in pixels, (N,) each."""
    rows = jnp.arange(images.shape[1], dtype=top.dtype)[None, :]
    columns = jnp.arange(images.shape[2], dtype=left.dtype)[None, :]
    tall = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    wide = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return tall[:, :, None, None] & wide[:, None, :, None]

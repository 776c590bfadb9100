"""Mixers combine each image, and its target, with the one that is `shift` places earlier in the batch.

Images are (N, H, W, C) with any value range, targets (N, K) float32 that sum to 1. The mixing weight is drawn once per batch,
as in the papers' code, or per example (`per_example`). The batch may be sharded over devices: the partners of a device's first
examples are then on the neighboring device.
"""

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.erasing import box
from jaxcnn.data.augment.pixels import is_integer, per_image
from jaxcnn.data.augment.settings import Probability
from jaxcnn.settings import Positive

Mixed = tuple[jax.Array, jax.Array]


def mixup(
    images: jax.Array, targets: jax.Array, key: jax.Array, shift: int = 1, *, alpha: Positive = 0.2, per_example: bool = False
) -> Mixed:
    """Returns the weighted mean of two images and of their targets; the weight is drawn from Beta(alpha, alpha).

    Zhang et al.: mixup: Beyond Empirical Risk Minimization. ICLR 2018, arXiv:1710.09412, section 2.
    """
    share = _share(key, images, alpha, per_example)
    return _mixed(images, targets, per_image(share), share, shift)


def cutmix(
    images: jax.Array, targets: jax.Array, key: jax.Array, shift: int = 1, *, alpha: Positive = 1.0, per_example: bool = False
) -> Mixed:
    """Pastes a box of one image into the other. The box's share of the area is 1 - Beta(alpha, alpha).

    Yun et al.: CutMix. ICCV 2019, arXiv:1905.04899, section 3.1. The box is clipped at the border; the targets are weighted by
    the exact shares of pixels.
    """
    kept, share = _box(key, images, alpha, per_example)
    return _mixed(images, targets, kept, share, shift)


def mixup_or_cutmix(
    images: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    shift: int = 1,
    *,
    mixup: Positive = 0.2,
    cutmix: Positive = 1.0,
    switch: Probability = 0.5,
    per_example: bool = False,
) -> Mixed:
    """Applies cutmix with probability `switch`, else mixup, with the alphas `cutmix` and `mixup`.

    Wightman, Touvron, Jégou: ResNet strikes back. arXiv:2110.00476, section 3 (its A1: 0.2 and 1.0; A2, A3: 0.1 and 1.0).
    """
    which_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    share = _share(mixup_key, images, mixup, per_example)
    kept, area = _box(cutmix_key, images, cutmix, per_example)
    cut = jax.random.bernoulli(which_key, switch, share.shape)
    return _mixed(images, targets, jnp.where(per_image(cut), kept, per_image(share)), jnp.where(cut, area, share), shift)


def _share(key: jax.Array, images: jax.Array, alpha: float, per_example: bool) -> jax.Array:
    """Returns the weight of the first image: (N,) if `per_example`, else (1,)."""
    return jax.random.beta(key, alpha, alpha, images.shape[:1] if per_example else (1,))


def _box(key: jax.Array, images: jax.Array, alpha: float, per_example: bool) -> Mixed:
    """Returns the mask of the pixels kept of the first image, (N or 1, H, W, 1) float32, and their share, (N or 1,)."""
    share_key, row_key, column_key = jax.random.split(key, 3)
    side = jnp.sqrt(1 - _share(share_key, images, alpha, per_example))
    height, width = images.shape[1:3]

    def edges(key: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
        size = jnp.floor(side * length).astype(jnp.int32)
        return jax.random.randint(key, side.shape, 0, length) - size // 2, size // 2 * 2

    (top, tall), (left, wide) = edges(row_key, height), edges(column_key, width)
    kept = 1 - box(images, top, left, tall, wide).astype(jnp.float32)
    return kept, kept.mean(axis=(1, 2, 3))


def _mixed(images: jax.Array, targets: jax.Array, weights: jax.Array, share: jax.Array, shift: int) -> Mixed:
    first, second = images.astype(jnp.float32), jnp.roll(images, shift, axis=0).astype(jnp.float32)
    mixed = weights * first + (1 - weights) * second
    mixed = (jnp.round(mixed) if is_integer(images) else mixed).astype(images.dtype)
    return mixed, share[:, None] * targets + (1 - share[:, None]) * jnp.roll(targets, shift, axis=0)

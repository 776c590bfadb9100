"""Images mixed with another one of their batch, `shift` places before, and their targets with them.

Images (N, H, W, C) of any range, targets (N, K) float32 that sum to 1. The share is drawn once a batch, as in the papers' code,
or for each example. The batch may be sharded: the partners of a device's first examples are its neighbor's last.
"""

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.erasing import box
from jaxcnn.data.augment.pixels import each, is_whole
from jaxcnn.data.augment.settings import Probability
from jaxcnn.settings import Positive

Mixed = tuple[jax.Array, jax.Array]


def mixup(
    images: jax.Array, targets: jax.Array, key: jax.Array, shift: int = 1, *, alpha: Positive = 0.2, per_example: bool = False
) -> Mixed:
    """A weighted mean of two images, the weight from Beta(alpha, alpha).

    Zhang et al.: mixup: Beyond Empirical Risk Minimization. ICLR 2018, arXiv:1710.09412, section 2.
    """
    share = _share(key, images, alpha, per_example)
    return _mixed(images, targets, each(share), share, shift)


def cutmix(
    images: jax.Array, targets: jax.Array, key: jax.Array, shift: int = 1, *, alpha: Positive = 1.0, per_example: bool = False
) -> Mixed:
    """A box of one image pasted into the other; its share of the area, from Beta(alpha, alpha), before the border cuts it.

    Yun et al.: CutMix. ICCV 2019, arXiv:1905.04899, section 3.1. The targets have the share of the pixels that are left.
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
    """Either, with their alphas: cutmix with probability `switch`, drawn once a batch (or for each example).

    Wightman, Touvron, Jégou: ResNet strikes back. arXiv:2110.00476, section 3 (its A1: 0.2 and 1.0; A2, A3: 0.1 and 1.0).
    """
    which_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    share = _share(mixup_key, images, mixup, per_example)
    kept, area = _box(cutmix_key, images, cutmix, per_example)
    cut = jax.random.bernoulli(which_key, switch, share.shape)
    return _mixed(images, targets, jnp.where(each(cut), kept, each(share)), jnp.where(cut, area, share), shift)


def _share(key: jax.Array, images: jax.Array, alpha: float, per_example: bool) -> jax.Array:
    """(N,), or (1,) for all."""
    return jax.random.beta(key, alpha, alpha, images.shape[:1] if per_example else (1,))


def _box(key: jax.Array, images: jax.Array, alpha: float, per_example: bool) -> Mixed:
    """What stays of the first image: 0 or 1 a pixel (N or 1, H, W, 1) float32, and its exact share of them (N or 1,)."""
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
    mixed = (jnp.round(mixed) if is_whole(images) else mixed).astype(images.dtype)
    return mixed, share[:, None] * targets + (1 - share[:, None]) * jnp.roll(targets, shift, axis=0)

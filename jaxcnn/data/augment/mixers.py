"""Mixers combine each image, and its target, with the one that is `shift` places earlier in the batch, its partner.

Images are (N, H, W, C) with any value range, class targets (N, K) float32 that sum to 1. `maps` (N, H, W) uint8 have the class
of each pixel, or VOID. The mixing weight is drawn once per batch, as in the papers' code, or per example (`per_example`). The
batch may be sharded over devices: the partners of a device's first examples are then on the neighboring device.
"""

import jax
import jax.numpy as jnp

from jaxcnn.data.augment.erasing import box
from jaxcnn.data.augment.pixels import is_integer, per_image
from jaxcnn.data.augment.settings import Probability
from jaxcnn.data.fields import VOID
from jaxcnn.settings import Positive, Share

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
    """Pastes a box of the partner into each image. The box's share of the area is 1 - Beta(alpha, alpha).

    Yun et al.: CutMix. ICCV 2019, arXiv:1905.04899, section 3.1. The box is clipped at the border; the targets are weighted by
    the exact shares of pixels. If they are maps, the box of the partner's map is pasted too, as in French et al.:
    Semi-supervised semantic segmentation needs strong, varied perturbations. BMVC 2020, arXiv:1906.01916.
    """
    kept, share = _box(key, images, alpha, per_example)
    if targets.ndim == 3:
        return _pasted((images, targets), _partner(images, targets, shift), kept == 0)
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


def mosaic(images: jax.Array, maps: jax.Array, key: jax.Array, shift: int = 1, *, p: Probability = 0.5) -> Mixed:
    """Replaces three quadrants of each image, with probability `p`, by quadrants of the images 1, 2 and 3 × `shift` earlier.

    Bochkovskiy et al.: YOLOv4. arXiv:2004.10934, section 3.3. The quadrants meet at a point that is drawn uniformly from the
    middle 60% of the height and of the width, as in the authors' code. Each quadrant is a crop of another image at the same
    place, without scaling, so that pixels and maps stay exact; scale images before, with random_resized_crop or affine.
    """
    n, height, width, _ = images.shape
    p_key, row_key, column_key = jax.random.split(key, 3)
    top, left = (
        jax.random.randint(k, (n,), round(0.2 * length), round(0.8 * length) + 1)
        for k, length in ((row_key, height), (column_key, width))
    )
    chosen, zero = per_image(jax.random.bernoulli(p_key, p, (n,))), jnp.zeros_like(top)
    mixed = images, maps
    for place, corner in enumerate(((zero, left), (top, zero), (top, left)), start=1):  # the last covers a part of the others
        mixed = _pasted(mixed, _partner(images, maps, place * shift), chosen & box(images, *corner, height, width))
    return mixed


def copy_paste(
    images: jax.Array, maps: jax.Array, key: jax.Array, shift: int = 1, *, p: Probability = 0.5, share: Share = 0.5
) -> Mixed:
    """Pastes the pixels of some of the partner's classes into each image, with probability `p`.

    Ghiasi et al.: Simple Copy-Paste. CVPR 2021, arXiv:2012.07177, pastes some of the instances. A map of classes has none, so
    `share` of the classes in the partner's map are drawn, rounded down, and all their pixels are pasted, as in Olsson et al.:
    ClassMix. WACV 2021, arXiv:2007.07936, which draws half of the classes. Void pixels are never pasted.
    """
    p_key, class_key = jax.random.split(key)
    partner = _partner(images, maps, shift)
    drawn = _draw_classes(class_key, partner[1], share) & jax.random.bernoulli(p_key, p, (len(maps), 1))
    pasted = jax.vmap(lambda drawn, values: drawn[values])(drawn, partner[1])
    return _pasted((images, maps), partner, pasted[..., None])


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


def _draw_classes(key: jax.Array, maps: jax.Array, share: float) -> jax.Array:
    """Returns (N, 256) bool, True for `share` of the classes that occur in each map, rounded down; False for VOID."""
    occurs = jax.vmap(lambda values: jnp.zeros(256, bool).at[values].set(True))(maps).at[:, VOID].set(False)
    order = jnp.where(occurs, jax.random.uniform(key, occurs.shape), 1.0)
    rank = order.argsort(axis=1).argsort(axis=1)
    return rank < jnp.floor(share * occurs.sum(axis=1, keepdims=True, dtype=jnp.float32)).astype(rank.dtype)


def _partner(images: jax.Array, maps: jax.Array, shift: int) -> Mixed:
    return jnp.roll(images, shift, axis=0), jnp.roll(maps, shift, axis=0)


def _pasted(onto: Mixed, partner: Mixed, pasted: jax.Array) -> Mixed:
    """Returns the images and maps `onto`, with those pixels of `partner` where `pasted` (N or 1, H, W, 1) is True."""
    return jnp.where(pasted, partner[0], onto[0]), jnp.where(pasted[..., 0], partner[1], onto[1])

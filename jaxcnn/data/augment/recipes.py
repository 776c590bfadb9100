"""Published policies: AutoAugment, RandAugment, TrivialAugment, AugMix, 3-Augment.

Images are (N, H, W, C) with values 0…255. `fill` is the value of pixels from outside the image. AutoAugment, RandAugment and
TrivialAugment also accept a Scene, whose maps and boxes are transformed with the pixels.
"""

import functools
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from jaxcnn.data.augment import color
from jaxcnn.data.augment.one_of_many import CODES, Space, Span, apply_sequence, draw, space, strengths
from jaxcnn.data.augment.pixels import per_image, round_like
from jaxcnn.data.augment.random_color import Threshold, blurred, color_jitter
from jaxcnn.data.augment.scene import Moved, Scene
from jaxcnn.data.augment.settings import Interpolation, Level, PositiveRange
from jaxcnn.data.files import third_party_lines
from jaxcnn.settings import Count, NotNegative

_ENHANCE = Span(0.1, 1.9)


def auto_augment(
    images: Moved,
    key: jax.Array,
    *,
    policy: Literal["cifar10", "imagenet"] = "cifar10",
    interpolation: Interpolation = "nearest",
    fill: Level = 128,
) -> Moved:
    """Applies to each image one of the 25 sub-policies found for a data set.

    Cubuk et al.: AutoAugment: Learning Augmentation Strategies from Data. CVPR 2019, arXiv:1805.09501, tables 6, 7, 9. A
    sub-policy has two operations, each with a probability and a level of 0…10. Translations are in proportion to height and
    width: up to 10/32 for CIFAR-10 and 150/331 for ImageNet, as the paper's pixels are for images of 32 and 331 pixels.
    """
    share = 10 / 32 if policy == "cifar10" else 150 / 331
    # Table 6 of the paper: a higher level keeps fewer bits and inverts more values.
    operations = space(
        shear=0.3, pixels=_shares(images, share), degrees=30, enhance=_ENHANCE, bits=Span(8, 4, integer=True),
        solarize=Span(256, 0, integer=True), invert=True,
    )  # fmt: skip
    which_key, p_key, sign_key = jax.random.split(key, 3)
    which = jax.random.randint(which_key, images.shape[:1], 0, 25)
    codes, p, level = (jnp.asarray(table)[:, which] for table in sub_policies(policy))  # (2, N) each
    codes = jnp.where(jax.random.bernoulli(p_key, p, codes.shape), codes, CODES["Identity"])
    strength = strengths(operations, codes, level, 10, sign_key)
    return apply_sequence(images, codes, strength, names=operations, interpolation=interpolation, fill=fill)


def _shares(images: jax.Array | Scene, share: float) -> tuple[float, float]:
    """Returns `share` of the images' height and of their width, in pixels."""
    return share * images.shape[1], share * images.shape[2]


@functools.cache
def sub_policies(policy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the codes, probabilities and levels of both operations of the 25 sub-policies, (2, 25) each."""
    rows = [line.split() for line in third_party_lines(f"autoaugment/{policy}.txt") if line]
    names, p, levels = ([row[i::3] for row in rows] for i in range(3))
    codes = np.array([[CODES[name] for name in pair] for pair in names], np.int32)
    numbers = np.array([[0 if level == "-" else int(level) for level in pair] for pair in levels], np.float32)
    return codes.T, np.array(p, np.float32).T, numbers.T


def rand_augment(
    images: Moved,
    key: jax.Array,
    *,
    n: Count = 2,
    m: Annotated[float, Meta(ge=0, le=30)] = 9.0,
    interpolation: Interpolation = "nearest",
    fill: Level = 128,
) -> Moved:
    """Applies `n` operations one after the other, each drawn from 14, at level `m`.

    Cubuk et al.: RandAugment. CVPR workshops 2020, arXiv:1909.13719, section 3 and figure 2. The ranges of strengths end at
    level 10; higher levels extrapolate, as in the paper. Strengths are those of the authors' code (tensorflow/tpu,
    efficientnet/autoaugment.py), where a higher level keeps more bits and inverts fewer values. Its translation of up to 100
    pixels is assumed to be for images of 224 pixels and is scaled in proportion to height and width.
    """
    operations = space(
        shear=0.3, pixels=_shares(images, 100 / 224), degrees=30, enhance=_ENHANCE, bits=Span(0, 4, integer=True),
        solarize=Span(0, 256, integer=True),
    )  # fmt: skip
    which_key, sign_key = jax.random.split(key)
    codes = draw(operations, which_key, (n, images.shape[0]))
    strength = strengths(operations, codes, jnp.full(codes.shape, m, jnp.float32), 10, sign_key)
    return apply_sequence(images, codes, strength, names=operations, interpolation=interpolation, fill=fill)


def trivial_augment(images: Moved, key: jax.Array, *, interpolation: Interpolation = "nearest", fill: Level = 128) -> Moved:
    """Applies TrivialAugment (Wide): one of 14 operations at one of 31 strengths, all equally probable.

    Müller, Hutter: TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation. ICCV 2021, arXiv:2103.10158,
    section 3 and table 1 (ranges of the column "Wide"). Translations are up to 32 pixels at any image size.
    """
    operations = space(
        shear=0.99, pixels=(32, 32), degrees=135, enhance=Span(0.01, 2), bits=Span(8, 2, integer=True),
        solarize=Span(256, 0, integer=True),
    )  # fmt: skip
    which_key, level_key, sign_key = jax.random.split(key, 3)
    codes = draw(operations, which_key, (1, images.shape[0]))
    level = jax.random.randint(level_key, codes.shape, 0, 31).astype(jnp.float32)
    strength = strengths(operations, codes, level, 30, sign_key)
    return apply_sequence(images, codes, strength, names=operations, interpolation=interpolation, fill=fill)


def aug_mix(
    images: jax.Array,
    key: jax.Array,
    *,
    width: Count = 3,
    depth: Annotated[int, Meta(ge=0, le=10)] = 0,
    severity: Annotated[float, Meta(ge=0.1, le=10)] = 3.0,
    all_operations: bool = False,
) -> jax.Array:
    """Mixes each image with the results of `width` chains of operations on it. The paper's consistency loss is not included.

    Hendrycks et al.: AugMix. ICLR 2020, arXiv:1912.02781, section 3 and algorithm 1. A chain has `depth` operations (0: one to
    three at random) with levels up to `severity`, of at most 10. `all_operations` adds the enhancements, which the paper leaves
    out because they overlap with the corruptions of its test sets. Strengths are those of the authors' code.
    """
    n = images.shape[0]
    all_spans = space(
        shear=0.3, pixels=(images.shape[1] / 3, images.shape[2] / 3), degrees=30, enhance=_ENHANCE,
        bits=Span(4, 0, integer=True), solarize=Span(256, 0, integer=True),
    )  # fmt: skip
    left_out = {"Identity"} if all_operations else {"Identity", "Brightness", "Contrast", "Color", "Sharpness"}
    operations: Space = {name: span for name, span in all_spans.items() if name not in left_out}
    keys = jax.random.split(key, 6)
    shape = (depth or 3, width, n)
    codes = draw(operations, keys[0], shape)
    if not depth:
        depths = jax.random.randint(keys[1], shape[1:], 1, 4)
        codes = jnp.where(jnp.arange(3)[:, None, None] < depths[None], codes, CODES["Identity"])
    level = jax.random.uniform(keys[2], shape, minval=0.1, maxval=severity)
    strength = strengths(operations, codes, level, 10, keys[3])
    weights = jax.random.exponential(keys[4], (width, n))
    weights = weights / weights.sum(axis=0, keepdims=True)  # from the flat Dirichlet distribution
    share = jax.random.uniform(keys[5], (n,))  # the weight of the chains, from Beta(1, 1)
    settings = {"names": operations, "interpolation": "bilinear", "fill": 0}
    chains = jax.vmap(lambda codes, strength: apply_sequence(images, codes, strength, **settings), in_axes=1)(codes, strength)
    mixed = (weights[:, :, None, None, None] * chains.astype(jnp.float32)).sum(axis=0)
    return round_like((1 - per_image(share)) * images.astype(jnp.float32) + per_image(share) * mixed, images)


def three_augment(
    images: jax.Array,
    key: jax.Array,
    *,
    jitter: NotNegative = 0.3,
    threshold: Threshold = 128,
    sigma: PositiveRange = (0.1, 2.0),
) -> jax.Array:
    """Applies 3-Augment: grayscale, solarize or blur with equal probability, then a color jitter.

    Touvron, Cord, Jégou: DeiT III: Revenge of the ViT. ECCV 2022, arXiv:2204.07118, section 3.2 and figure 2. The paper's crop
    and flip are separate operations of the policy.
    """
    which_key, blur_key, jitter_key = jax.random.split(key, 3)
    which = per_image(jax.random.randint(which_key, images.shape[:1], 0, 3))
    solarized = color.solarize(images, jnp.full(images.shape[:1], float(threshold)))
    first = jnp.where(which == 0, color.grayscale(images), jnp.where(which == 1, solarized, blurred(images, blur_key, sigma)))
    return color_jitter(first, jitter_key, brightness=jitter, contrast=jitter, saturation=jitter)

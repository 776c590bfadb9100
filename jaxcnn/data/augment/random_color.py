"""The operations of color.py at random strengths, drawn for each example. Images (N, H, W, C) of values 0…255."""

import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from msgspec import Meta

from jaxcnn.data.augment import color
from jaxcnn.data.augment.pixels import each
from jaxcnn.data.augment.settings import PositiveRange, Probability
from jaxcnn.settings import NotNegative

Threshold = Annotated[int, Meta(ge=0, le=256)]


def brightness(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """By a factor in 1 ± `strength`; 0 is black."""
    return color.brightness(images, _factor(key, images, strength))


def contrast(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """By a factor in 1 ± `strength`; 0 is one grey."""
    return color.contrast(images, _factor(key, images, strength))


def saturation(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """By a factor in 1 ± `strength`; 0 is without colour."""
    return color.saturation(images, _factor(key, images, strength))


def sharpness(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """By a factor in 1 ± `strength`; 0 is smoothed."""
    return color.sharpness(images, _factor(key, images, strength))


def hue(images: jax.Array, key: jax.Array, *, strength: Annotated[float, Meta(ge=0, le=0.5)] = 0.1) -> jax.Array:
    """By up to ± `strength` of the colour circle."""
    return color.hue(images, jax.random.uniform(key, images.shape[:1], minval=-strength, maxval=strength))


def color_jitter(
    images: jax.Array,
    key: jax.Array,
    *,
    brightness: NotNegative = 0.4,
    contrast: NotNegative = 0.4,
    saturation: NotNegative = 0.4,
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.0,
    p: Probability = 1.0,
) -> jax.Array:
    """`brightness`, `contrast`, `saturation` and `hue`, each of its strength, in an order drawn for each example."""
    if saturation or hue:
        color.check_colors(images)
    order_key, factor_key, hue_key, p_key = jax.random.split(key, 4)
    n = images.shape[0]
    strengths = {0: brightness, 1: contrast, 2: saturation, 3: hue}
    used = [i for i, strength in strengths.items() if strength > 0]
    order = jax.random.permutation(
        order_key, jnp.broadcast_to(jnp.array(used, jnp.int32), (n, len(used))), axis=1, independent=True
    )
    keys = jax.random.split(factor_key, 3)
    factors = jnp.stack([_factor(k, images, s) for k, s in zip(keys, (brightness, contrast, saturation), strict=True)])
    turn = jax.random.uniform(hue_key, (n,), minval=-hue, maxval=hue)

    def one(images: jax.Array, now: jax.Array) -> tuple[jax.Array, None]:
        degenerate = jnp.where(each(now == 1), color.mean_gray(images), 0.0)
        degenerate = jnp.where(each(now == 2), color.gray_levels(images), degenerate)
        blended = color.blend(degenerate, images, jnp.select([now == i for i in range(3)], list(factors), 1.0))
        return (jnp.where(each(now == 3), color.hue(images, turn), blended) if hue else blended), None

    # a loop, as XLA would otherwise fuse the rounds and compute the first ones again and again (85 ms instead of 10)
    result, _ = jax.lax.scan(one, images, order.T)
    return _sometimes(p_key, p, images, result)


def grayscale(images: jax.Array, key: jax.Array, *, p: Probability = 0.2) -> jax.Array:
    """Without colour."""
    return _sometimes(key, p, images, color.grayscale(images))


def gaussian_blur(images: jax.Array, key: jax.Array, *, p: Probability = 0.5, sigma: PositiveRange = (0.1, 2.0)) -> jax.Array:
    """By a Gaussian of standard deviation between the two `sigma`, in pixels."""
    p_key, sigma_key = jax.random.split(key)
    return _sometimes(p_key, p, images, blurred(images, sigma_key, sigma))


def blurred(images: jax.Array, key: jax.Array, sigma: tuple[float, float]) -> jax.Array:
    """All of them blurred, each by a `sigma` between the two."""
    drawn = jax.random.uniform(key, images.shape[:1], minval=sigma[0], maxval=sigma[1])
    return color.gaussian_blur(images, drawn, reach=math.ceil(3 * sigma[1]))


def solarize(images: jax.Array, key: jax.Array, *, p: Probability = 0.2, threshold: Threshold = 128) -> jax.Array:
    """Values from `threshold` on inverted."""
    return _sometimes(key, p, images, color.solarize(images, jnp.full(images.shape[:1], float(threshold))))


def posterize(
    images: jax.Array, key: jax.Array, *, p: Probability = 0.2, bits: Annotated[int, Meta(ge=1, le=8)] = 4
) -> jax.Array:
    """Only the highest `bits` of a value's 8 kept."""
    return _sometimes(key, p, images, color.posterize(images, jnp.full(images.shape[:1], float(bits))))


def _at_random(operation: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    def with_probability(images: jax.Array, key: jax.Array, *, p: Probability = 0.2) -> jax.Array:
        return _sometimes(key, p, images, operation(images))

    return with_probability


equalize = _at_random(color.equalize)
autocontrast = _at_random(color.autocontrast)
invert = _at_random(color.invert)


def _factor(key: jax.Array, images: jax.Array, strength: float) -> jax.Array:
    return jax.random.uniform(key, images.shape[:1], minval=max(0.0, 1 - strength), maxval=1 + strength)


def _sometimes(key: jax.Array, p: float, images: jax.Array, changed: jax.Array) -> jax.Array:
    return jnp.where(each(jax.random.bernoulli(key, p, images.shape[:1])), changed, images)

"""The operations of color.py at random strengths, drawn per example. Images are (N, H, W, C) with values 0…255.

`p` is the probability with which an operation is applied to an image.
"""

import math
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
from msgspec import Meta

from jaxcnn.data.augment import color
from jaxcnn.data.augment.pixels import per_image
from jaxcnn.data.augment.settings import PositiveRange, Probability
from jaxcnn.settings import NotNegative

Threshold = Annotated[int, Meta(ge=0, le=256)]


def brightness(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """Scales the brightness by a factor drawn from 1 ± `strength`, at least 0 (black)."""
    return color.brightness(images, _factor(key, images, strength))


def contrast(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """Scales the contrast by a factor drawn from 1 ± `strength`, at least 0 (uniformly gray)."""
    return color.contrast(images, _factor(key, images, strength))


def saturation(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """Scales the saturation by a factor drawn from 1 ± `strength`, at least 0 (no color)."""
    return color.saturation(images, _factor(key, images, strength))


def sharpness(images: jax.Array, key: jax.Array, *, strength: NotNegative = 0.4) -> jax.Array:
    """Scales the sharpness by a factor drawn from 1 ± `strength`, at least 0 (smoothed)."""
    return color.sharpness(images, _factor(key, images, strength))


def hue(images: jax.Array, key: jax.Array, *, strength: Annotated[float, Meta(ge=0, le=0.5)] = 0.1) -> jax.Array:
    """Rotates the hue by up to ± `strength`, in fractions of the color circle."""
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
    """Applies brightness, contrast, saturation and hue with the given strengths, in an order drawn per example."""
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

    def apply_next(images: jax.Array, chosen: jax.Array) -> tuple[jax.Array, None]:
        degenerate = jnp.where(per_image(chosen == 1), color.mean_gray(images), 0.0)
        degenerate = jnp.where(per_image(chosen == 2), color.gray_levels(images), degenerate)
        blended = color.blend(degenerate, images, jnp.select([chosen == i for i in range(3)], list(factors), 1.0))
        return (jnp.where(per_image(chosen == 3), color.hue(images, turn), blended) if hue else blended), None

    # A scan: without it XLA fuses the rounds and recomputes the first ones many times (85 ms instead of 10).
    result, _ = jax.lax.scan(apply_next, images, order.T)
    return _sometimes(p_key, p, images, result)


def grayscale(images: jax.Array, key: jax.Array, *, p: Probability = 0.2) -> jax.Array:
    """Removes the color of an image with probability `p`."""
    return _sometimes(key, p, images, color.grayscale(images))


def gaussian_blur(images: jax.Array, key: jax.Array, *, p: Probability = 0.5, sigma: PositiveRange = (0.1, 2.0)) -> jax.Array:
    """Blurs an image, with probability `p`, by a Gaussian; its standard deviation in pixels is drawn from the range `sigma`."""
    p_key, sigma_key = jax.random.split(key)
    return _sometimes(p_key, p, images, blurred(images, sigma_key, sigma))


def blurred(images: jax.Array, key: jax.Array, sigma: tuple[float, float]) -> jax.Array:
    """Returns all images blurred, each by a Gaussian whose standard deviation is drawn from the range `sigma`."""
    drawn = jax.random.uniform(key, images.shape[:1], minval=sigma[0], maxval=sigma[1])
    return color.gaussian_blur(images, drawn, reach=math.ceil(3 * sigma[1]))


def solarize(images: jax.Array, key: jax.Array, *, p: Probability = 0.2, threshold: Threshold = 128) -> jax.Array:
    """Inverts, with probability `p`, the values of at least `threshold`."""
    return _sometimes(key, p, images, color.solarize(images, jnp.full(images.shape[:1], float(threshold))))


def posterize(
    images: jax.Array, key: jax.Array, *, p: Probability = 0.2, bits: Annotated[int, Meta(ge=1, le=8)] = 4
) -> jax.Array:
    """Keeps, with probability `p`, only the `bits` highest bits of each 8-bit value."""
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
    return jnp.where(per_image(jax.random.bernoulli(key, p, images.shape[:1])), changed, images)

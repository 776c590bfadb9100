"""Applies a different operation to each example of a batch, as AutoAugment and similar policies require.

All operations are computed for all examples, and each example's result is selected. Without branches, this compiles for every
device and can be sharded. It is cheap: the geometric operations are one warp whose matrix depends on the operation, and the
four enhancements (brightness, contrast, color, sharpness) are one blend.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.data.augment import color
from jaxcnn.data.augment.geometry import affine
from jaxcnn.data.augment.pixels import per_image
from jaxcnn.data.augment.scene import Moved, moved

# Cubuk et al.: AutoAugment. CVPR 2019, arXiv:1805.09501, table 6; the names are those in the tables of its policies.
NAMES = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Contrast",
    "Color",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
    "Invert",
)
CODES = {name: code for code, name in enumerate(NAMES)}
_GEOMETRY, _ENHANCEMENTS = NAMES[1:6], NAMES[6:10]


class Span(NamedTuple):
    """The range of an operation's strength, which is linear in its level."""

    low: float
    high: float
    integer: bool = False
    """True if the difference from `low` is truncated to an integer."""
    signed: bool = False
    """True if the strength is negated at random."""

    def at(self, level: jax.Array, top: float) -> jax.Array:
        """Returns the strength at `level`: `low` at level 0, `high` at level `top`."""
        difference = level * (self.high - self.low) / top
        return self.low + (jnp.trunc(difference) if self.integer else difference)


Space = Mapping[str, Span]
"""The operations of a policy with the ranges of their strengths."""
NO_STRENGTH = Span(0, 0)


def space(
    *,
    shear: float,
    pixels: tuple[float, float],
    degrees: float,
    enhance: Span,
    bits: Span,
    solarize: Span,
    invert: bool = False,
) -> Space:
    """Returns the operations that all policies share, with the given ranges.

    Args:
      shear: the largest shear, in pixels per pixel.
      pixels: the largest translation in pixels, vertical and horizontal.
      degrees: the largest rotation.
      enhance: the factors of brightness, contrast, color and sharpness.
      bits: the numbers of bits that Posterize keeps.
      solarize: the thresholds of Solarize.
      invert: True to include Invert.
    """
    spans = {
        "Identity": NO_STRENGTH,
        "ShearX": Span(0, shear, signed=True),
        "ShearY": Span(0, shear, signed=True),
        "TranslateX": Span(0, pixels[1], integer=True, signed=True),
        "TranslateY": Span(0, pixels[0], integer=True, signed=True),
        "Rotate": Span(0, degrees, signed=True),
        **dict.fromkeys(_ENHANCEMENTS, enhance),
        "Posterize": bits,
        "Solarize": solarize,
        "AutoContrast": NO_STRENGTH,
        "Equalize": NO_STRENGTH,
    }
    return spans | ({"Invert": NO_STRENGTH} if invert else {})


def strengths(space: Space, codes: jax.Array, level: jax.Array, top: float, key: jax.Array) -> jax.Array:
    """Returns the strengths of the operations `codes` (int32) at `level` (float32, same shape), with random signs if signed."""
    values = jnp.select([codes == CODES[n] for n in space], [span.at(level, top) for span in space.values()], 0.0)
    signed = jnp.any(jnp.stack([codes == CODES[n] for n, span in space.items() if span.signed]), axis=0)
    return jnp.where(signed & jax.random.bernoulli(key, shape=codes.shape), -values, values)


def draw(space: Space, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws operations of `space` with equal probability. Returns int32 codes of the given shape."""
    codes = jnp.array([CODES[name] for name in space], jnp.int32)
    return codes[jax.random.randint(key, shape, 0, len(space))]


def apply(
    images: jax.Array,
    codes: jax.Array,
    strength: jax.Array,
    *,
    names: Collection[str] = NAMES,
    interpolation: str = "nearest",
    fill: int = 128,
) -> jax.Array:
    """Applies one operation to each image (N, H, W, C): that of `codes` at `strength`, (N,) each.

    `names` are the operations that can occur in `codes`; no others are computed.
    """
    chosen = {name: codes == code for name, code in CODES.items()}
    height, width = images.shape[1:3]
    result = images

    def select(name: str, values: jax.Array) -> None:
        nonlocal result
        if name in names:
            result = jnp.where(per_image(chosen[name]), values, result)

    if not set(_GEOMETRY).isdisjoint(names):
        is_geometric = jnp.stack([chosen[name] for name in _GEOMETRY]).any(axis=0)
        warped = affine(images, _matrices(chosen, strength, height, width), interpolation=interpolation, fill=fill)
        result = jnp.where(per_image(is_geometric), warped, result)
    if not set(_ENHANCEMENTS).isdisjoint(names):
        color.check_colors(images)
        degenerate = jnp.where(per_image(chosen["Contrast"]), color.mean_gray(images), 0.0)
        degenerate = jnp.where(per_image(chosen["Color"]), color.gray_levels(images), degenerate)
        degenerate = jnp.where(per_image(chosen["Sharpness"]), color.smooth(images), degenerate)
        enhanced = jnp.stack([chosen[name] for name in _ENHANCEMENTS]).any(axis=0)
        result = jnp.where(per_image(enhanced), color.blend(degenerate, images, strength), result)
    select("Posterize", color.posterize(images, strength))
    select("Solarize", color.solarize(images, strength))
    select("AutoContrast", color.autocontrast(images))
    select("Equalize", color.equalize(images))
    select("Invert", color.invert(images))
    return result


def apply_sequence(images: Moved, codes: jax.Array, strength: jax.Array, **settings) -> Moved:
    """Calls `apply` for each row of `codes` and `strength`, (K, N) each, one after the other.

    The maps and boxes of a Scene are transformed with its pixels. `settings` are keyword arguments of `apply`.
    """

    def apply_row(images, inputs):  # one body for all rows keeps the compiled program small
        def matrices():
            codes, strength = inputs
            return _matrices({name: codes == CODES[name] for name in _GEOMETRY}, strength, *images.shape[1:3])

        return moved(images, matrices, lambda pixels: apply(pixels, *inputs, **settings)), None

    return jax.lax.scan(apply_row, images, (codes, strength))[0]


def _matrices(chosen: Mapping[str, jax.Array], strength: jax.Array, height: int, width: int) -> jax.Array:
    """Returns the matrices (N, 2, 3) of the geometric operations; those of all other operations are the identity.

    Rotations are as in Pillow's Image.rotate, shears are about the top left corner.
    """
    angle = jnp.where(chosen["Rotate"], strength, 0.0) * (math.pi / 180)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2

    def where(name, otherwise):
        return jnp.where(chosen[name], strength, otherwise)

    rows = (
        (cos, where("ShearX", -sin), where("TranslateX", x - cos * x + sin * y)),
        (where("ShearY", sin), cos, where("TranslateY", y - sin * x - cos * y)),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)

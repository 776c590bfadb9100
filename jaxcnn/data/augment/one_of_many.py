"""A different operation for each example: what AutoAugment and its kin are made of.

All operations are computed for all examples, and each keeps its own: no branches, so that it runs on any device and is shared
between devices like anything else. It is cheap, as geometry is one warp whose matrix depends on the operation, and
the four enhancements are one blend.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn.data.augment import color
from jaxcnn.data.augment.geometry import affine
from jaxcnn.data.augment.pixels import each
from jaxcnn.data.augment.scene import Moved, moved

# Cubuk et al.: AutoAugment. CVPR 2019, arXiv:1805.09501, table 6, under the names of the tables of its policies
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
    """Strengths of an operation, linear in its level."""

    low: float
    high: float
    whole: bool = False
    """in whole steps from `low`, the fraction cut off"""
    signed: bool = False
    """either way, at random"""

    def at(self, level: jax.Array, top: float) -> jax.Array:
        """`low` at level 0, `high` at level `top`."""
        way = level * (self.high - self.low) / top
        return self.low + (jnp.trunc(way) if self.whole else way)


Space = Mapping[str, Span]
"""the operations of a policy, with their strengths"""
NOTHING = Span(0, 0)


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
    """The operations that all policies share: `shear` in pixels a pixel, translation by up to `pixels` (down, across), …"""
    spans = {
        "Identity": NOTHING,
        "ShearX": Span(0, shear, signed=True),
        "ShearY": Span(0, shear, signed=True),
        "TranslateX": Span(0, pixels[1], whole=True, signed=True),
        "TranslateY": Span(0, pixels[0], whole=True, signed=True),
        "Rotate": Span(0, degrees, signed=True),
        **dict.fromkeys(_ENHANCEMENTS, enhance),
        "Posterize": bits,
        "Solarize": solarize,
        "AutoContrast": NOTHING,
        "Equalize": NOTHING,
    }
    return spans | ({"Invert": NOTHING} if invert else {})


def strengths(space: Space, codes: jax.Array, level: jax.Array, top: float, key: jax.Array) -> jax.Array:
    """The strength of each operation at its level, with its sign drawn. codes and level: int32 and float32 of one shape."""
    values = jnp.select([codes == CODES[n] for n in space], [span.at(level, top) for span in space.values()], 0.0)
    signed = jnp.any(jnp.stack([codes == CODES[n] for n, span in space.items() if span.signed]), axis=0)
    return jnp.where(signed & jax.random.bernoulli(key, shape=codes.shape), -values, values)


def draw(space: Space, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Operations of `space`, all alike probable: int32 codes."""
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
    """Operation `codes` at `strength`, (N,) each, on each image (N, H, W, C); only those of `names` occur."""
    chosen = {name: codes == code for name, code in CODES.items()}
    height, width = images.shape[1:3]
    result = images

    def take(name: str, values: jax.Array) -> None:
        nonlocal result
        if name in names:
            result = jnp.where(each(chosen[name]), values, result)

    if not set(_GEOMETRY).isdisjoint(names):
        moved = jnp.stack([chosen[name] for name in _GEOMETRY]).any(axis=0)
        warped = affine(images, _matrices(chosen, strength, height, width), interpolation=interpolation, fill=fill)
        result = jnp.where(each(moved), warped, result)
    if not set(_ENHANCEMENTS).isdisjoint(names):
        color.check_colors(images)
        degenerate = jnp.where(each(chosen["Contrast"]), color.mean_gray(images), 0.0)
        degenerate = jnp.where(each(chosen["Color"]), color.gray_levels(images), degenerate)
        degenerate = jnp.where(each(chosen["Sharpness"]), color.smooth(images), degenerate)
        enhanced = jnp.stack([chosen[name] for name in _ENHANCEMENTS]).any(axis=0)
        result = jnp.where(each(enhanced), color.blend(degenerate, images, strength), result)
    take("Posterize", color.posterize(images, strength))
    take("Solarize", color.solarize(images, strength))
    take("AutoContrast", color.autocontrast(images))
    take("Equalize", color.equalize(images))
    take("Invert", color.invert(images))
    return result


def in_turn(images: Moved, codes: jax.Array, strength: jax.Array, **settings) -> Moved:
    """`apply` once for each row of `codes` and `strength`, (K, N) each. Of a Scene, maps and boxes move with the pixels."""

    def one(images, inputs):  # one body for all rows: the program stays small
        def matrices():
            codes, strength = inputs
            return _matrices({name: codes == CODES[name] for name in _GEOMETRY}, strength, *images.shape[1:3])

        return moved(images, matrices, lambda pixels: apply(pixels, *inputs, **settings)), None

    return jax.lax.scan(one, images, (codes, strength))[0]


def _matrices(chosen: Mapping[str, jax.Array], strength: jax.Array, height: int, width: int) -> jax.Array:
    """(N, 2, 3): what Pillow's Image.rotate makes, or a shear about the top left corner, or a shift; else the identity."""
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

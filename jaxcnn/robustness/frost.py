"""Images of frost: generated textures, or photographs in a folder."""

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jaxcnn.data.decode import decode, read_bytes
from jaxcnn.errors import printable

_PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The original has a sixth, frost6.jpg, which it never draws."""

_COLORS = (
    ((78, 149, 166), (27, 16, 15)),
    ((201, 205, 214), (21, 22, 23)),
    ((201, 205, 214), (21, 22, 23)),
    ((138, 153, 165), (28, 28, 30)),
    ((112, 123, 135), (44, 43, 42)),
)
"""Per-channel mean and standard deviation of each texture, as measured on the original's photographs."""

_SIDE = 448  # pixels; the photographs are 315×560 to 600×900 pixels in size
_CRYSTALS = 1200


@functools.lru_cache
def frost_textures(folder: str | Path | None = None) -> Sequence[np.ndarray]:
    """Returns five images of frost, (h, w, 3) uint8 each.

    Args:
      folder: contains the original's photographs, frost1.png to frost5.jpg; None generates textures with the photographs'
        per-channel mean and standard deviation, but other structures.

    Raises:
      UserError: a photograph is missing or cannot be decoded.
    """
    if folder is None:
        return tuple(_texture(np.random.default_rng(number), *color) for number, color in enumerate(_COLORS))
    paths = [Path(folder) / name for name in _PHOTOGRAPHS]
    return tuple(decode(read_bytes(path), printable(str(path)), 3) for path in paths)


def _texture(rng: np.random.Generator, mean: tuple[int, ...], std: tuple[int, ...]) -> np.ndarray:
    """Returns feather-shaped crystals of random position, direction, length and brightness on a cloudy pane, (h, h, 3)."""
    clouds = cv2.resize(rng.normal(size=(8, 8)), (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    pane = np.clip(110 + 25 * clouds / clouds.std(), 0, 255).astype(np.uint8)
    for _ in range(_CRYSTALS):
        cv2.polylines(pane, _crystal(rng), False, float(rng.uniform(40, 255)), lineType=cv2.LINE_AA)
    gray = cv2.GaussianBlur(pane.astype(np.float64), (0, 0), 0.7) + rng.normal(0, 6, pane.shape)
    standardized = ((gray - gray.mean()) / gray.std())[..., None]
    return np.clip(np.array(mean) + np.array(std) * standardized, 0, 255).astype(np.uint8)


def _crystal(rng: np.random.Generator) -> list[np.ndarray]:
    """Returns the lines of a crystal, (2, 2) int32 points each: a needle, and branches at 60° that shorten toward its tip."""
    start, angle, length = rng.uniform(0, _SIDE, 2), rng.uniform(0, 2 * np.pi), rng.uniform(10, 70)
    along = np.arange(0, length, 4)[:, None]
    feet = start + along * _unit(angle)
    branches = [np.stack([feet, feet + 0.4 * (length - along) * _unit(angle + turn)], 1) for turn in (np.pi / 3, -np.pi / 3)]
    needle = np.stack([start, start + length * _unit(angle)])[None]
    return list(np.concatenate([needle, *branches]).round().astype(np.int32))


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])

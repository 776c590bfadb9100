"""Samples that are no plain 8-bit grey or color: deep, signed, float, or with transparency. They become 8-bit ones."""

import functools
import io
import math
import re
import warnings
from typing import Any

import numpy as np

from jaxcnn.data.picture_header import FORMATS, Header, without_png_metadata
from jaxcnn.errors import UserError

IntensityWindow = tuple[float, float] | tuple[()]
"""(low, high): the samples that become 0 and 255, and those beyond; linear between. () for none."""


@functools.cache
def opencv() -> Any:
    """cv2, imported when it is first needed, and silent about damaged files: they are reported by name."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def check_window(window: tuple) -> None:
    """Raises UserError where `window`, the setting data.window, is no (low, high)."""
    if window and not (len(window) == 2 and window[0] < window[1]):
        raise UserError(f"data.window: {window} is not (low, high), the samples that become 0 and 255, such as (-160, 240)")


def imdecode(encoded: bytes, name: str, mode: int) -> np.ndarray:
    """The picture by OpenCV, not turned by its EXIF orientation. Raises UserError, which names it."""
    cv2 = opencv()
    try:
        data = np.frombuffer(without_png_metadata(encoded), np.uint8)
        image = cv2.imdecode(data, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{name}: a damaged or truncated picture")
    return image


def eight_bits(encoded: bytes, name: str, header: Header, window: IntensityWindow, channels: int) -> np.ndarray:
    """Grey (H, W) or, of 3 channels, BGR (H, W, 3) uint8: transparency lies on white, and deep samples are scaled.

    With a window, samples become 255 (s - low) / (high - low), within 0…255, NaN 0. Without, the upper 8 of 16 bits are
    taken, and s 255 / maximum where a file states another one.

    Raises:
      UserError: damaged; samples that have no faithful 8-bit image without a window, or 8-bit ones with a window.
    """
    if not window and not header.maximum:
        raise UserError(
            f"{name}: {header.samples} samples have no faithful 8-bit image; "
            "set data.window=(low, high), the samples that become 0 and 255"
        )
    read = _plain_netpbm if encoded[:2] in (b"P2", b"P3") else _by_pillow if header.by_pillow else _by_opencv
    try:
        samples = read(encoded, name)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # what Pillow's decoders raise on damaged files has no base in common
        raise UserError(f"{name}: a damaged or truncated picture") from error
    opacity = None
    if header.transparent is not None:
        opacity = (samples != header.transparent).astype(np.float32)
    elif samples.ndim == 3 and samples.shape[2] == 4:
        full = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1
        opacity = samples[..., 3].astype(np.float32) / full if header.alpha in ("straight", "premultiplied") else None
        samples = samples[..., :3]
    if header.shift:
        samples = samples >> header.shift
    image = _windowed(samples, name, window) if window else _scaled(samples, name, header)
    if header.inverted:
        image = 255 - image
    cv2 = opencv()
    if opacity is not None and opacity.min() < 1:
        image = _on_white(image, opacity, header.alpha == "premultiplied")
    elif image.ndim == 3 and channels == 1 and not window and not header.by_pillow and header.maximum in (255, 65535):
        return imdecode(encoded, name, cv2.IMREAD_GRAYSCALE)  # rounded as it is without transparency and for 8 bits
    if (image.ndim == 3) != (channels == 3):
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR if channels == 3 else cv2.COLOR_BGR2GRAY)
    return np.ascontiguousarray(image)


def _by_opencv(encoded: bytes, name: str) -> np.ndarray:
    return imdecode(encoded, name, opencv().IMREAD_UNCHANGED)


def _by_pillow(encoded: bytes, name: str) -> np.ndarray:
    """As OpenCV gives it: grey (H, W), BGR or BGRA."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        image.load()
        if image.has_transparency_data:
            return np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]]
        return np.asarray(image.convert("L")) if image.mode in ("1", "L") else np.asarray(image.convert("RGB"))[..., ::-1]


def _plain_netpbm(encoded: bytes, name: str) -> np.ndarray:
    """PGM and PPM whose samples are decimal numbers, as OpenCV gives binary ones."""
    kind, width, height, maximum, *numbers = re.sub(rb"#[^\n\r]*", b" ", encoded).split()
    shape = (int(height), int(width), 3) if kind == b"P3" else (int(height), int(width))
    dtype = np.uint16 if int(maximum) > 255 else np.uint8
    samples = np.array([int(number) for number in numbers[: math.prod(shape)]], dtype).reshape(shape)
    return samples[..., ::-1] if kind == b"P3" else samples


def _windowed(samples: np.ndarray, name: str, window: IntensityWindow) -> np.ndarray:
    if samples.dtype == np.uint8:
        raise UserError(f"{name}: data.window={window} is for deeper samples, but these have 8 bits; leave such pictures out")
    low, high = map(float, window)
    inside = np.clip(np.nan_to_num(samples.astype(np.float64), nan=low), low, high)
    return np.rint((inside - low) / (high - low) * 255).astype(np.uint8)


def _scaled(samples: np.ndarray, name: str, header: Header) -> np.ndarray:
    """By the stated maximum."""
    if header.maximum == 255:
        return samples
    if header.maximum != 65535:
        return np.rint(np.minimum(samples, header.maximum) * (255 / header.maximum)).astype(np.uint8)
    if 0 < (reach := int(samples.max())) < 4096:
        raise UserError(
            f"{name}: 16-bit samples that reach only {reach:,} keep {1 + reach // 256} grey levels in 8 bits; "
            f"set data.window=(low, high), the samples that become 0 and 255, such as (0, {2 ** reach.bit_length() - 1})"
        )
    return (samples >> 8).astype(np.uint8)


def _on_white(image: np.ndarray, opacity: np.ndarray, premultiplied: bool) -> np.ndarray:
    opacity = opacity if image.ndim == 2 else opacity[..., None]
    share = image * (1 if premultiplied else opacity)
    return np.rint(np.minimum(share + 255 * (1 - opacity), 255)).astype(np.uint8)

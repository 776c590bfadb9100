"""Converts images that are not plain 8-bit gray or color (deep, signed or float samples, transparency) to 8 bits."""

import functools
import io
import math
import re
import warnings
from typing import Any

import numpy as np

from jaxcnn.data.image_header import FORMATS, Header, without_png_metadata
from jaxcnn.errors import UserError

IntensityWindow = tuple[float, float] | tuple[()]
"""(low, high): samples up to `low` become 0 and samples from `high` on become 255, linear between; () for no window."""


@functools.cache
def opencv() -> Any:
    """Returns the module cv2, imported on first use. Its log is silenced, as damaged files are reported with their names."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def check_window(window: tuple) -> None:
    """Raises UserError if `window`, the setting data.window, is neither () nor (low, high)."""
    if window and not (len(window) == 2 and window[0] < window[1]):
        raise UserError(f"data.window: expected (low, high) with low < high, such as (-160, 240), got {window}")


def imdecode(encoded: bytes, name: str, mode: int) -> np.ndarray:
    """Decodes an image with OpenCV without applying its EXIF orientation. Raises UserError, which names it."""
    cv2 = opencv()
    try:
        data = np.frombuffer(without_png_metadata(encoded), np.uint8)
        image = cv2.imdecode(data, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{name}: the image is damaged or truncated")
    return image


def eight_bits(encoded: bytes, name: str, header: Header, window: IntensityWindow, channels: int) -> np.ndarray:
    """Returns gray (H, W) or, for 3 channels, BGR (H, W, 3) uint8. Transparency is composed onto white.

    With a window, a sample s becomes 255 (s - low) / (high - low), clipped to 0…255, and NaN becomes 0. Without a window, the
    upper 8 of 16 bits are used, or 255 s / maximum if the file states another maximum.

    Raises:
      UserError: the image is damaged, needs a window to be converted to 8 bits, or has 8 bits although a window is set.
    """
    if not window and not header.maximum:
        raise UserError(
            f"{name}: {header.samples} samples cannot be converted to 8 bits without a range; "
            "set data.window=(low, high), the samples that become 0 and 255"
        )
    read = _plain_netpbm if encoded[:2] in (b"P2", b"P3") else _by_pillow if header.by_pillow else _by_opencv
    try:
        samples = read(encoded, name)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the exceptions of Pillow's decoders have no common base class
        raise UserError(f"{name}: the image is damaged or truncated") from error
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
        return imdecode(encoded, name, cv2.IMREAD_GRAYSCALE)  # rounded as for opaque and for 8-bit images
    if (image.ndim == 3) != (channels == 3):
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR if channels == 3 else cv2.COLOR_BGR2GRAY)
    return np.ascontiguousarray(image)


def _by_opencv(encoded: bytes, name: str) -> np.ndarray:
    return imdecode(encoded, name, opencv().IMREAD_UNCHANGED)


def _by_pillow(encoded: bytes, name: str) -> np.ndarray:
    """Decodes with Pillow to OpenCV's form: gray (H, W), or (H, W, 3 or 4) in the order BGR or BGRA."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        image.load()
        if image.has_transparency_data:
            return np.asarray(image.convert("RGBA"))[..., [2, 1, 0, 3]]
        return np.asarray(image.convert("L")) if image.mode in ("1", "L") else np.asarray(image.convert("RGB"))[..., ::-1]


def _plain_netpbm(encoded: bytes, name: str) -> np.ndarray:
    """Decodes a PGM or PPM whose samples are decimal numbers, to the form in which OpenCV returns binary ones."""
    kind, width, height, maximum, *numbers = re.sub(rb"#[^\n\r]*", b" ", encoded).split()
    shape = (int(height), int(width), 3) if kind == b"P3" else (int(height), int(width))
    dtype = np.uint16 if int(maximum) > 255 else np.uint8
    samples = np.array([int(number) for number in numbers[: math.prod(shape)]], dtype).reshape(shape)
    return samples[..., ::-1] if kind == b"P3" else samples


def _windowed(samples: np.ndarray, name: str, window: IntensityWindow) -> np.ndarray:
    if samples.dtype == np.uint8:
        raise UserError(f"{name}: data.window={window} needs more than 8 bits per sample, but this image has 8; remove it")
    low, high = map(float, window)
    inside = np.clip(np.nan_to_num(samples.astype(np.float64), nan=low), low, high)
    return np.rint((inside - low) / (high - low) * 255).astype(np.uint8)


def _scaled(samples: np.ndarray, name: str, header: Header) -> np.ndarray:
    """Scales samples by the maximum that the header states."""
    if header.maximum == 255:
        return samples
    if header.maximum != 65535:
        return np.rint(np.minimum(samples, header.maximum) * (255 / header.maximum)).astype(np.uint8)
    if 0 < (highest := int(samples.max())) < 4096:
        raise UserError(
            f"{name}: 16-bit samples up to only {highest:,} would keep {1 + highest // 256} gray levels in 8 bits; set "
            f"data.window=(low, high), the samples that become 0 and 255, such as (0, {2 ** highest.bit_length() - 1})"
        )
    return (samples >> 8).astype(np.uint8)


def _on_white(image: np.ndarray, opacity: np.ndarray, premultiplied: bool) -> np.ndarray:
    opacity = opacity if image.ndim == 2 else opacity[..., None]
    share = image * (1 if premultiplied else opacity)
    return np.rint(np.minimum(share + 255 * (1 - opacity), 255)).astype(np.uint8)

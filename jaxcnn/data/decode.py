"""Decodes encoded images to uint8 arrays with OpenCV, and only as much of them as a view shows.

A view maps the size of an image to the rectangle that is shown and to the size it is resized to. Training and evaluation,
files and arrays all use the same `decode` and `look`, so a network never sees two kinds of resizing.
"""

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcnn.data.image_header import read_header
from jaxcnn.data.samples import IntensityWindow, eight_bits, imdecode, opencv
from jaxcnn.errors import UserError

_TURNS = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}
"""EXIF orientation -> (whether to transpose, OpenCV's code of the flip that follows, or None)."""
_LARGE = 2**24  # pixels: a padded image that is larger (50 MB of RGB) is resized in two steps


class Window(NamedTuple):
    """A rectangle of an image, in pixels, and the (height, width) it is resized to. What is outside the image is black.

    `averages` is the shrinking factor above which OpenCV averages over areas instead of interpolating bilinearly.
    """

    top: float
    left: float
    height: float
    width: float
    size: tuple[int, int]
    averages: float = 1.0
    interpolation: str = "area"


class Place(NamedTuple):
    """Where a decoded image comes from."""

    size: tuple[int, int]
    """(height, width) of the full image, upright"""
    window: Window
    """the rectangle of the full image that is shown, after rounding to whole pixels of the decoded image"""


View = Callable[[int, int], Window]
"""(height, width) of an image -> the window that is shown."""


@dataclasses.dataclass(frozen=True)
class Center:
    """The view of evaluation: with fit="crop", the shorter side is resized to size / ratio and the center is cut out.

    "pad" shows the full image and fills the rest with black; "stretch" changes the aspect ratio. With one of Pillow's
    interpolations, sizes are rounded as in torchvision's and timm's transforms, so that the pixels equal theirs.
    """

    size: tuple[int, int]
    fit: str = "crop"
    ratio: float = 1.0
    interpolation: str = "area"

    def __call__(self, height: int, width: int) -> Window:
        """Returns the window of an image of this size."""
        out_height, out_width = self.size
        if self.interpolation != "area" and self.fit != "pad":
            return self._cut_out_after_resizing(height, width)
        if self.fit == "stretch":
            return Window(0, 0, height, width, self.size)
        scales = height / out_height, width / out_width
        scale = max(scales) if self.fit == "pad" else min(scales) * self.ratio
        h, w = out_height * scale, out_width * scale
        return Window((height - h) / 2, (width - w) / 2, h, w, self.size, interpolation=self.interpolation)

    def _cut_out_after_resizing(self, height: int, width: int) -> Window:
        """Returns the window that Resize and CenterCrop of torchvision and timm show, with their rounding."""
        down, across = (math.floor(side / self.ratio + 1e-6) for side in self.size)  # timm's rule: 224 / 0.95 is 235
        if self.fit == "crop" and down * width >= across * height:
            across = down * width // height
        elif self.fit == "crop":
            down = across * height // width
        top, left = round((down - self.size[0]) / 2), round((across - self.size[1]) / 2)
        after_resizing = Window(top, left, *self.size, self.size, interpolation=self.interpolation)
        return scaled(after_resizing, height / down, width / across)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """The view of training: a rectangle of random area and aspect ratio (Szegedy et al. 2015, section 6).

    `scale` is the range of its share of the area. `aspect` is the range of width / height, drawn uniformly on a log scale.
    After ten draws that do not fit, it is the largest center that does. The crop depends only on `key`, (seed, place).
    Shrinking by less than 2 is bilinear, which is a fifth faster than averaging; the aliasing is small beside the variation
    between crops.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    aspect: tuple[float, float]
    key: tuple[int, int]

    def __call__(self, height: int, width: int) -> Window:
        """Returns the window of an image of this size."""
        seed, place = self.key
        generator = random.Random((seed << 64) + place)  # created four times as fast as NumPy's
        low, high = (math.log(a) for a in self.aspect)
        for _ in range(10):
            area = height * width * generator.uniform(*self.scale)
            aspect = math.exp(generator.uniform(low, high))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                top, left = generator.randrange(height - h + 1), generator.randrange(width - w + 1)
                return Window(top, left, h, w, self.size, 2.0)
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        largest = min(width, height * aspect), min(height, width / aspect)
        return Window((height - largest[1]) / 2, (width - largest[0]) / 2, largest[1], largest[0], self.size, 2.0)


def decode(encoded: bytes, name: str, channels: int, view: View | None = None, window: IntensityWindow = ()) -> np.ndarray:
    """Returns an image as (H, W, channels) uint8, gray or RGB; with a view as (*size, channels).

    Decodes JPEG, PNG, WebP, BMP and the other formats of `read_header`. EXIF orientation is applied and transparency is
    composed onto white. Samples of more than 8 bits are reduced to their upper 8, or mapped by the intensity `window`, see
    `samples.eight_bits`. If a view needs less than its resolution, a JPEG is decoded at 1/2, 1/4 or 1/8, which averages:
    for the center views only as far as a factor of at least 2 remains to be averaged, for random crops as far as nothing is
    enlarged.

    Raises:
      UserError: the file is not an image, is truncated or too large, or its samples have no faithful 8-bit image.
    """
    return decode_with_place(encoded, name, channels, view, window)[0]


def decode_with_place(
    encoded: bytes, name: str, channels: int, view: View | None = None, window: IntensityWindow = ()
) -> tuple[np.ndarray, Place]:
    """Returns the image of `decode`, and where in the full image it comes from."""
    cv2 = opencv()
    header = read_header(encoded, name)
    size = header.height, header.width
    shown, reduce = view(*size) if view else None, 1
    place = Place(size, Window(0, 0, *size, size))
    if header.plain and not window:
        reduce = _reduction(shown) if shown and encoded[:2] == b"\xff\xd8" else 1
        kind = "COLOR" if channels == 3 else "GRAYSCALE"
        image = imdecode(encoded, name, getattr(cv2, f"IMREAD_REDUCED_{kind}_{reduce}" if reduce > 1 else f"IMREAD_{kind}"))
    else:
        image = eight_bits(encoded, name, header, window, channels)
    if header.orientation != 1:
        transpose, axis = _TURNS[header.orientation]
        image = cv2.transpose(image) if transpose else image
        image = image if axis is None else cv2.flip(image, axis)
    if shown:
        shown = scaled(shown, image.shape[0] / header.height, image.shape[1] / header.width)
        place = Place(size, _in_full_image(rounded(shown), reduce, header.orientation, image.shape[:2], size))
        image = look(image, shown)
    if channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # last, when fewer pixels are left
    return image if image.ndim == 3 else image[..., None], place


def _in_full_image(window: Window, reduce: int, orientation: int, decoded: tuple[int, int], size: tuple[int, int]) -> Window:
    """Converts a window of a JPEG that was decoded at 1/`reduce` and then turned upright to pixels of the upright full image.

    A decoded pixel covers `reduce` pixels, counted from the upper left corner of the stored image; the last row and column
    may cover fewer. If turning the image moves that corner to another side, the incomplete row or column comes first.
    """
    _, axis = _TURNS.get(orientation, (False, None))
    from_below = axis is not None and axis <= 0  # OpenCV's codes: 0 flips rows, 1 columns, -1 both
    from_right = axis is not None and axis != 0
    top = size[0] - reduce * decoded[0] if from_below else 0
    left = size[1] - reduce * decoded[1] if from_right else 0
    in_full_image = scaled(window, reduce, reduce)
    return in_full_image._replace(top=in_full_image.top + top, left=in_full_image.left + left)


def rounded(window: Window) -> Window:
    """Returns the rectangle that `look` shows: rounded to whole pixels, unless Pillow resizes it, which accepts fractions."""
    if window.interpolation != "area":
        return window
    top, left = math.floor(window.top + 0.5), math.floor(window.left + 0.5)
    bottom = max(top + 1, math.floor(window.top + window.height + 0.5))
    right = max(left + 1, math.floor(window.left + window.width + 0.5))
    return window._replace(top=top, left=left, height=bottom - top, width=right - left)


def look(image: np.ndarray, window: Window) -> np.ndarray:
    """Returns the window of an image (H, W[, C]) uint8, resized to `window.size`; black outside the image.

    With the interpolation "area", OpenCV resizes bilinearly, or averages over areas when shrinking by more than
    `window.averages`, to avoid aliasing. With another one, Pillow resizes, with antialiasing.

    A window that extends far beyond an elongated image is resized in two steps, one per axis, because the padded image
    might not fit in memory.
    """
    height, width = image.shape[:2]
    if window.height * window.width > max(_LARGE, 4 * height * width):
        if window.size[1] < window.width < width + 0.5:
            image = look(image, window._replace(top=0, height=height, size=(height, window.size[1])))
            return look(image, window._replace(left=0, width=window.size[1]))
        if window.size[0] < window.height < height + 0.5:
            image = look(image, window._replace(left=0, width=width, size=(window.size[0], width)))
            return look(image, window._replace(top=0, height=window.size[0]))
    if window.interpolation != "area":
        return _look_by_pillow(image, window)
    cv2 = opencv()
    top, left, tall, wide = map(int, rounded(window)[:4])
    bottom, right = top + tall, left + wide
    part = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    outside = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(outside):
        part = cv2.copyMakeBorder(part, *outside, cv2.BORDER_CONSTANT, value=0)
    if part.shape[:2] != window.size:
        shrinks = math.sqrt((bottom - top) / window.size[0] * (right - left) / window.size[1])
        interpolation = cv2.INTER_AREA if shrinks > window.averages else cv2.INTER_LINEAR
        part = cv2.resize(part, window.size[::-1], interpolation=interpolation)
    return np.ascontiguousarray(part).reshape(*window.size, *image.shape[2:])


def _look_by_pillow(image: np.ndarray, window: Window) -> np.ndarray:
    from PIL import Image

    sides = list(zip(image.shape, (window.top, window.left), (window.height, window.width), strict=False))
    outside = [(max(0, math.ceil(-start)), max(0, math.ceil(start + length - side - 1e-6))) for side, start, length in sides]
    if any(map(any, outside)):
        image = np.pad(image, outside + [(0, 0)] * (image.ndim - 2))
    starts = [start + before for (_, start, _), (before, _) in zip(sides, outside, strict=True)]
    stops = [min(start + length, side) for start, (_, _, length), side in zip(starts, sides, image.shape, strict=False)]
    padded = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    box = (starts[1], starts[0], stops[1], stops[0])
    resized = padded.resize(window.size[::-1], Image.Resampling[window.interpolation.upper()], box)
    return np.asarray(resized).reshape(*window.size, *image.shape[2:])


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Converts an image (H, W, C) uint8 to 1 or 3 channels: gray is broadcast without a copy, RGB is reduced to its luma."""
    height, width, present = image.shape
    if present == channels:
        return image
    if present == 1:
        return np.broadcast_to(image, (height, width, channels))
    cv2 = opencv()
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]


def image_format(encoded: bytes, name: str) -> tuple[int, int, bool]:
    """Returns (height, width, whether it is gray) of the upright image, from its header alone."""
    return read_header(encoded, name)[:3]


def read_bytes(path: str | Path) -> bytes:
    """Returns the content of a file. Raises UserError, which names the file, if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def _reduction(window: Window) -> int:
    """Returns the factor by which a JPEG may be shrunk during decoding, 1, 2, 4 or 8, so that the view loses no detail."""
    if window.interpolation != "area":
        return 1  # torchvision and timm resize the full image
    spare = min(window.height / window.size[0], window.width / window.size[1])
    return max((r for r in (1, 2, 4, 8) if r <= spare * window.averages / 2), default=1)


def scaled(window: Window, down: float, across: float) -> Window:
    """Returns the same window of the image decoded at another size, `down` times as high and `across` times as wide."""
    return window._replace(
        top=window.top * down, left=window.left * across, height=window.height * down, width=window.width * across
    )

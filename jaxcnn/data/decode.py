"""Encoded pictures to uint8 arrays, by OpenCV, and only as much of them as is looked at.

A view says which part of a picture of known size is looked at, and at what size it comes out. Training and evaluation,
files and arrays go through the same `decode` and `look`, so a network never sees two kinds of resizing.
"""

import dataclasses
import functools
import io
import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcnn.errors import UserError

MOST_PIXELS = 178_956_970  # where Pillow sees a decompression bomb
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15


class Window(NamedTuple):
    """A rectangle of a picture, in pixels (its edges may lie outside: black there), and the size it is resized to."""

    top: float
    left: float
    height: float
    width: float
    size: tuple[int, int]
    averages: float = 1.0
    interpolation: str = "area"


View = Callable[[int, int], Window]
"""(height, width) of a picture -> what is looked at."""


@dataclasses.dataclass(frozen=True)
class Centre:
    """Evaluation's view: the shorter side is resized to size / ratio, and the centre cut out ("crop").

    "pad" shows the whole picture, with black beside it; "stretch" changes its proportions. Where the interpolation is one
    of Pillow's, sizes are whole pixels as in torchvision's and timm's transforms, and so are the pixels that come out.
    """

    size: tuple[int, int]
    fit: str = "crop"
    ratio: float = 1.0
    interpolation: str = "area"

    def __call__(self, height: int, width: int) -> Window:
        """The window of a picture of this size."""
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
        """The window that torchvision's Resize and CenterCrop see, and timm's, with their rounding."""
        down, across = (math.floor(side / self.ratio + 1e-6) for side in self.size)  # timm's rule: 224 / 0.95 is 235
        if self.fit == "crop" and down * width >= across * height:
            across = down * width // height
        elif self.fit == "crop":
            down = across * height // width
        top, left = round((down - self.size[0]) / 2), round((across - self.size[1]) / 2)
        whole = Window(top, left, *self.size, self.size, interpolation=self.interpolation)
        return scaled(whole, height / down, width / across)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """Training's view: a rectangle of random area and proportions (Szegedy et al. 2015, section 6).

    `scale` is the range of its share of the area, `aspect` that of width / height, drawn uniformly in the logarithm;
    after ten draws that do not fit, the largest centre that does. They are a function of `key`, (seed, place), alone.
    Shrinking by less than 2 is bilinear: a fifth faster than averaging, and no more aliased than the crops' own variety.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    aspect: tuple[float, float]
    key: tuple[int, int]

    def __call__(self, height: int, width: int) -> Window:
        """The window of a picture of this size."""
        seed, place = self.key
        generator = random.Random((seed << 64) + place)  # a quarter of the time that NumPy's takes to make
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


def decode(encoded: bytes, name: str, channels: int, view: View | None = None) -> np.ndarray:
    """A picture as (H, W, channels) uint8, grey or RGB; with a view (*size, channels).

    JPEG, PNG, WebP, BMP and what else OpenCV reads; EXIF orientation is honoured, transparency dropped, 16 bits become 8.
    A JPEG of which a view wants less than its resolution is decoded at 1/2, 1/4 or 1/8, which averages: where it is
    looked at whole never so small that the rest shrinks it by less than 2, in random crops that it would be enlarged.

    Raises:
      UserError: `name` is no picture, cut off, or too large to be one.
    """
    cv2 = _opencv()
    height, width, _ = picture_format(encoded, name)
    window = view(height, width) if view else None
    reduce = _reduction(window) if window and encoded[:2] == b"\xff\xd8" else 1
    kind = "COLOR" if channels == 3 else "GRAYSCALE"
    mode = getattr(cv2, f"IMREAD_REDUCED_{kind}_{reduce}" if reduce > 1 else f"IMREAD_{kind}")
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), mode)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{name}: a damaged or truncated picture")
    if window:
        image = look(image, scaled(window, image.shape[0] / height, image.shape[1] / width))
    if channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # last: there are fewer pixels by now
    return image if image.ndim == 3 else image[..., None]


@functools.cache
def _opencv() -> Any:
    """cv2, imported when it is first needed, and silent about damaged files: they are reported by name."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def look(image: np.ndarray, window: Window) -> np.ndarray:
    """The window of an image (H, W[, C]) uint8, resized to its size; black where it lies outside.

    Bilinear by OpenCV; averaged over areas where it shrinks by more than `window.averages`, so that nothing is aliased. Or
    by Pillow, with the interpolation that the window names, widened where it shrinks.
    """
    if window.interpolation != "area":
        return _look_by_pillow(image, window)
    cv2 = _opencv()
    height, width = image.shape[:2]
    top, left = math.floor(window.top + 0.5), math.floor(window.left + 0.5)
    bottom = max(top + 1, math.floor(window.top + window.height + 0.5))
    right = max(left + 1, math.floor(window.left + window.width + 0.5))
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
    picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    box = (starts[1], starts[0], stops[1], stops[0])
    resized = picture.resize(window.size[::-1], Image.Resampling[window.interpolation.upper()], box)
    return np.asarray(resized).reshape(*window.size, *image.shape[2:])


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image (H, W, C) uint8 in so many channels: grey is repeated, which costs no memory; of RGB its luma is taken."""
    height, width, has = image.shape
    if has == channels:
        return image
    if has == 1:
        return np.broadcast_to(image, (height, width, channels))
    cv2 = _opencv()
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]


def picture_format(encoded: bytes, name: str) -> tuple[int, int, bool]:
    """(height, width, whether it is grey) of a picture as it is seen, from its header alone."""
    if not encoded:
        raise UserError(f"{name}: an empty file")
    height, width, grey = _jpeg_format(encoded) or _format_by_pillow(encoded, name)
    if width * height > MOST_PIXELS:
        raise UserError(f"{name}: more than {MOST_PIXELS:,} pixels; it would fill the memory")
    return height, width, grey


def _jpeg_format(encoded: bytes) -> tuple[int, int, bool] | None:
    """The same from a JPEG's frame header (ITU T.81, B.2.2), many times as fast as Pillow; None for any other picture.

    A JPEG with a segment APP1 is left to Pillow too: there EXIF may say that the picture is to be turned.
    """
    place = 2 if encoded[:2] == b"\xff\xd8" else len(encoded)
    while place + 10 <= len(encoded) and encoded[place] == 0xFF and encoded[place + 1] != 0xE1:
        if encoded[place + 1] in _FRAME_HEADERS:
            height, width = (int.from_bytes(encoded[place + at : place + at + 2], "big") for at in (5, 7))
            return height, width, encoded[place + 9] == 1
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None


def _format_by_pillow(encoded: bytes, name: str) -> tuple[int, int, bool]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                (width, height), grey = image.size, image.mode in ("1", "L", "LA") or image.mode.startswith("I")
                orientation = image.getexif().get(0x0112, 1)
    except Image.DecompressionBombError:
        width, height, orientation, grey = MOST_PIXELS, 2, 1, False  # said by the caller
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{name}: not a picture that can be decoded") from error
    return (width, height, grey) if orientation >= 5 else (height, width, grey)


def read_bytes(path: str | Path) -> bytes:
    """All of a file. Raises UserError, which names it, where it can't be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def _reduction(window: Window) -> int:
    """By how much a JPEG may be shrunk while it is decoded: 1, 2, 4 or 8, as long as the rest still shrinks by averaging."""
    if window.interpolation != "area":
        return 1  # torchvision and timm resize the whole picture
    spare = min(window.height / window.size[0], window.width / window.size[1])
    return max((r for r in (1, 2, 4, 8) if r <= spare * window.averages / 2), default=1)


def scaled(window: Window, down: float, across: float) -> Window:
    """The same window of the picture decoded at another size."""
    return window._replace(
        top=window.top * down, left=window.left * across, height=window.height * down, width=window.width * across
    )

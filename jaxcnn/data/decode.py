"""Encoded pictures to uint8 arrays, by OpenCV, and only as much of them as is looked at.

A view says which part of a picture of known size is looked at, and at what size it comes out. Training and evaluation,
files and arrays go through the same `decode` and `look`, so a network never sees two kinds of resizing.
"""

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcnn.data.picture_header import read_header
from jaxcnn.data.samples import IntensityWindow, eight_bits, imdecode, opencv
from jaxcnn.errors import UserError

_TURNS = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}
"""EXIF orientation -> whether to transpose, and then about which axis to flip (OpenCV's numbers)."""
_LARGE = 2**24  # pixels of a padded picture, 50 MB of RGB, from which it is shrunk first


class Window(NamedTuple):
    """A rectangle of a picture, in pixels (its edges may lie outside: black there), and the size it is resized to."""

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
    """(height, width) of the whole picture, upright"""
    window: Window
    """the rectangle of it that the image shows, after rounding to whole pixels of the decoded picture"""


View = Callable[[int, int], Window]
"""(height, width) of a picture -> what is looked at."""


@dataclasses.dataclass(frozen=True)
class Center:
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


def decode(encoded: bytes, name: str, channels: int, view: View | None = None, window: IntensityWindow = ()) -> np.ndarray:
    """A picture as (H, W, channels) uint8, grey or RGB; with a view (*size, channels).

    JPEG, PNG, WebP, BMP and what else `read_header` knows; EXIF orientation is honoured, transparency lies on white. Of more
    than 8 bits the upper ones are taken, or those that the intensity window shows, see `samples.eight_bits`.
    A JPEG of which a view wants less than its resolution is decoded at 1/2, 1/4 or 1/8, which averages: where it is
    looked at whole never so small that the rest shrinks it by less than 2, in random crops that it would be enlarged.

    Raises:
      UserError: the file is not a picture, is cut off or too large, or its samples have no faithful 8-bit image.
    """
    return decode_with_place(encoded, name, channels, view, window)[0]


def decode_with_place(
    encoded: bytes, name: str, channels: int, view: View | None = None, window: IntensityWindow = ()
) -> tuple[np.ndarray, Place]:
    """`decode`, and where its image comes from."""
    cv2 = opencv()
    header = read_header(encoded, name)
    size = header.height, header.width
    seen, reduce = view(*size) if view else None, 1
    place = Place(size, Window(0, 0, *size, size))
    if header.plain and not window:
        reduce = _reduction(seen) if seen and encoded[:2] == b"\xff\xd8" else 1
        kind = "COLOR" if channels == 3 else "GRAYSCALE"
        image = imdecode(encoded, name, getattr(cv2, f"IMREAD_REDUCED_{kind}_{reduce}" if reduce > 1 else f"IMREAD_{kind}"))
    else:
        image = eight_bits(encoded, name, header, window, channels)
    if header.orientation != 1:
        transpose, axis = _TURNS[header.orientation]
        image = cv2.transpose(image) if transpose else image
        image = image if axis is None else cv2.flip(image, axis)
    if seen:
        seen = scaled(seen, image.shape[0] / header.height, image.shape[1] / header.width)
        place = Place(size, _in_whole_picture(looked_at(seen), reduce, header.orientation, image.shape[:2], size))
        image = look(image, seen)
    if channels == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # last: there are fewer pixels by now
    return image if image.ndim == 3 else image[..., None], place


def _in_whole_picture(window: Window, reduce: int, orientation: int, decoded: tuple[int, int], size: tuple[int, int]) -> Window:
    """A window of a JPEG that was decoded at 1/`reduce`, and then turned upright, in pixels of the upright picture.

    Its pixels are `reduce` pixels wide, counted from the upper left corner as stored; the last row and column may hold fewer.
    Where the turn moves that corner to the other side, these come first.
    """
    _, axis = _TURNS.get(orientation, (False, None))
    from_below = axis is not None and axis <= 0  # OpenCV's axes: 0 flips rows, 1 columns, -1 both
    from_right = axis is not None and axis != 0
    top = size[0] - reduce * decoded[0] if from_below else 0
    left = size[1] - reduce * decoded[1] if from_right else 0
    whole = scaled(window, reduce, reduce)
    return whole._replace(top=whole.top + top, left=whole.left + left)


def looked_at(window: Window) -> Window:
    """The rectangle that `look` shows: whole pixels, where it does not resize by Pillow, which takes fractions of them."""
    if window.interpolation != "area":
        return window
    top, left = math.floor(window.top + 0.5), math.floor(window.left + 0.5)
    bottom = max(top + 1, math.floor(window.top + window.height + 0.5))
    right = max(left + 1, math.floor(window.left + window.width + 0.5))
    return window._replace(top=top, left=left, height=bottom - top, width=right - left)


def look(image: np.ndarray, window: Window) -> np.ndarray:
    """The window of an image (H, W[, C]) uint8, resized to its size; black where it lies outside.

    Bilinear by OpenCV; averaged over areas where it shrinks by more than `window.averages`, so that nothing is aliased. Or
    by Pillow, with the interpolation that the window names, widened where it shrinks.

    A window that reaches far beyond a long picture is looked at in two steps, each along one axis: with the black around it
    the picture might not fit into the memory.
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
    top, left, tall, wide = map(int, looked_at(window)[:4])
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
    cv2 = opencv()
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]


def picture_format(encoded: bytes, name: str) -> tuple[int, int, bool]:
    """(height, width, whether it is grey) of a picture as it is seen, from its header alone."""
    return read_header(encoded, name)[:3]


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

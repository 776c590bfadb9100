"""Draws annotations or predictions over images: segmentation maps, bounding boxes with class names, captions."""

import colorsys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcnn.data.class_maps import Color
from jaxcnn.data.fields import NO_BOX, VOID

if TYPE_CHECKING:
    from PIL import Image

_OPACITY = 0.45  # of the colors of a map
_VOID_COLOR = (224, 224, 192)  # PASCAL VOC's


def class_colors(num_classes: int, stated: Sequence[Color] = ()) -> np.ndarray:
    """Returns the colors that a data set states for its classes, or else default colors, (num_classes, 3) uint8 RGB.

    The default color of class k does not depend on the number of classes. Successive hues differ by the golden ratio, so that
    consecutive classes are distinct. Saturation and brightness have three levels each.
    """
    if stated:
        return np.array(stated, np.uint8)
    colors = [
        colorsys.hsv_to_rgb((0.6 + k * 0.61803398875) % 1, (1, 0.6, 1)[k % 3], (0.95, 1, 0.6)[k // 3 % 3])
        for k in range(num_classes)
    ]
    return np.round(255 * np.array(colors)).astype(np.uint8).reshape(-1, 3)


def draw_map(image: np.ndarray, classes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, C) blended with the colors of the classes of a map (H, W), as (H, W, 3) uint8 RGB.

    `colors` are (K, 3) uint8 RGB. Pixels for which the map is VOID are unchanged.

    Raises:
      ValueError: the map has another size, or a class that has no color.
    """
    import cv2

    _check_map(image, classes, colors)
    image, void = _rgb(image), classes == VOID
    blended = cv2.addWeighted(image, 1 - _OPACITY, _palette(colors)[classes], _OPACITY, 0)
    blended[void] = image[void]
    return blended


def draw_outlines(image: np.ndarray, classes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Returns an image (H, W, C) with the borders between the classes of a map (H, W), as (H, W, 3) uint8 RGB.

    Each side of a border is a line in the color of its class. The lines are wider on larger images. Borders to VOID are not
    drawn. `colors` and errors are as in `draw_map`.
    """
    import cv2

    _check_map(image, classes, colors)
    width = max(1, round(max(classes.shape) / 500))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    void = classes == VOID
    # The least and the greatest class within the disk. VOID is neither: it is greater than all classes, or replaced by 0.
    least, greatest = cv2.erode(classes, disk), cv2.dilate(np.where(void, np.uint8(0), classes), disk)
    result, border = _rgb(image), ~void & (least != greatest)
    result[border] = colors[classes[border]]
    return result


def palette_image(classes: np.ndarray, colors: np.ndarray) -> "Image.Image":
    """Returns a map (H, W) uint8 as a palette image (Pillow's mode "P"): the pixels are the classes, and have their colors.

    `colors` are (K, 3) uint8 RGB. VOID and values without a class have the color that VOID has in PASCAL VOC.
    """
    from PIL import Image

    result = Image.fromarray(classes)
    result.putpalette(_palette(colors).tobytes())
    return result


def draw_boxes(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns an image (H, W, C) with boxes and their class names drawn on it, as (H, W, 3) uint8 RGB.

    `boxes` (M, 4) are x0, y0, x1, y1 in pixels, `classes` are (M,). Rows with the class NO_BOX are skipped. Letters that
    OpenCV's font lacks are written without accents, or as "?".
    """
    import cv2

    result, colors = _rgb(image), class_colors(len(class_names))
    height, width = result.shape[:2]
    line, font = max(1, round(max(height, width) / 300)), max(0.42, max(height, width) / 900)
    for box, k in zip(boxes.tolist(), classes.tolist(), strict=True):
        if k == NO_BOX:
            continue
        color = tuple(map(int, colors[k]))
        left, top, right, bottom = (round(place) for place in box)
        cv2.rectangle(result, (left, top), (max(left, right - 1), max(top, bottom - 1)), color, line)
        text = _ascii(class_names[k])
        (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, 1)
        at = (max(0, min(left, width - wide)), max(tall, top if top > tall + below else top + tall + below))
        cv2.rectangle(result, (at[0], at[1] - tall - 1), (at[0] + wide, at[1] + below - 1), color, cv2.FILLED)
        ink = (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
        cv2.putText(result, text, (at[0], at[1] - 1), cv2.FONT_HERSHEY_SIMPLEX, font, ink, 1, cv2.LINE_AA)
    return result


def draw_caption(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Returns an image (H, W, C) with lines of text on white below it, as (H + h, W or wider, 3) uint8 RGB."""
    import cv2

    image = _rgb(image)
    font = max(0.42, image.shape[1] / 900)
    texts = [_ascii(line) for line in lines]
    sizes = [cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, 1) for text in texts]
    width = max(image.shape[1], *(wide + 4 for (wide, _), _ in sizes))
    high = max(tall + below for (_, tall), below in sizes) + 2
    result = np.full((image.shape[0] + high * len(texts), width, 3), 255, np.uint8)
    result[: image.shape[0], : image.shape[1]] = image
    for row, (text, ((_, tall), _)) in enumerate(zip(texts, sizes, strict=True)):
        at = (2, image.shape[0] + row * high + tall + 1)
        cv2.putText(result, text, at, cv2.FONT_HERSHEY_SIMPLEX, font, (0, 0, 0), 1, cv2.LINE_AA)
    return result


def _check_map(image: np.ndarray, classes: np.ndarray, colors: np.ndarray) -> None:
    if classes.shape != image.shape[:2]:
        raise ValueError(f"expected a map of the shape {image.shape[:2]}, as the image has, got {classes.shape}")
    if ((classes >= len(colors)) & (classes != VOID)).any():
        raise ValueError(f"expected a map with {len(colors)} classes, got class {classes[classes != VOID].max()}")


def _palette(colors: np.ndarray) -> np.ndarray:
    """Returns the colors of all values of a map, (256, 3) uint8."""
    palette = np.full((256, 3), _VOID_COLOR, np.uint8)
    palette[: len(colors)] = colors
    return palette


def _rgb(image: np.ndarray) -> np.ndarray:
    """Returns a copy with three channels. If the image has another number of channels, the first is repeated."""
    return np.ascontiguousarray(image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)).copy()


def _ascii(name: str) -> str:
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()

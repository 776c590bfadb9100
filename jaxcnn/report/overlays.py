"""What images are annotated with, or what a network says of them, drawn over them: maps of classes, boxes with names."""

import colorsys
import unicodedata
from collections.abc import Sequence

import numpy as np

from jaxcnn.data.fields import NO_BOX, VOID

_OPACITY = 0.45  # of a map's colours


def class_colors(num_classes: int) -> np.ndarray:
    """(num_classes, 3) uint8 RGB: class k has the same colour whatever the number of classes.

    Hues follow one another by the golden ratio, so that neighbours differ; saturation and brightness have three levels each.
    """
    colors = [
        colorsys.hsv_to_rgb((0.6 + k * 0.61803398875) % 1, (1, 0.6, 1)[k % 3], (0.95, 1, 0.6)[k // 3 % 3])
        for k in range(num_classes)
    ]
    return np.round(255 * np.array(colors)).astype(np.uint8).reshape(-1, 3)


def draw_map(image: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB: an image (H, W, C) with the colours of a map (H, W) over it. Where the map is VOID, it stays.

    Raises:
      ValueError: a map of another size, or with a class from `num_classes` on.
    """
    if classes.shape != image.shape[:2] or ((classes >= num_classes) & (classes != VOID)).any():
        raise ValueError(f"a map {classes.shape} of {num_classes} classes was expected for an image {image.shape}")
    result, shown = _rgb(image), classes != VOID
    colors = class_colors(num_classes)[classes[shown]]
    result[shown] = np.round((1 - _OPACITY) * result[shown] + _OPACITY * colors).astype(np.uint8)
    return result


def draw_boxes(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: an image (H, W, C) with boxes (M, 4), x0 y0 x1 y1 in its pixels, named by their classes (M,).

    Rows of the class NO_BOX are left out. Letters that OpenCV's font lacks are written without their accents, or as "?".
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
    """(H + h, W or wider, 3) uint8 RGB: an image (H, W, C) with lines of text on white below it."""
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


def _rgb(image: np.ndarray) -> np.ndarray:
    """A copy in three channels; of other numbers than three, the first is shown."""
    return np.ascontiguousarray(image if image.shape[2] == 3 else np.repeat(image[..., :1], 3, axis=2)).copy()


def _ascii(name: str) -> str:
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()

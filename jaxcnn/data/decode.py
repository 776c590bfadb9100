"""Picture files to uint8 arrays, by OpenCV."""

from pathlib import Path

import numpy as np

from jaxcnn.errors import UserError


def read_image(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The picture in a file as (H, W, C) uint8, RGB or grey, its shorter side resized to fit and the centre cut out.

    EXIF orientation is honoured; shrinking averages over areas.

    Raises:
      UserError: no such file, or none that can be decoded.
    """
    import cv2

    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(f"{path}: pictures have 1 or 3 channels, but the network takes {channels}")
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'can not be read'}") from error
    mode = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(raw, mode) if raw.size else None
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path}: not a picture that can be decoded")
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width].reshape(image_shape)

"""The mapping from the network's pixels to the photo's pixels: marks drawn into a photo are found at their positions."""

import itertools

import cv2
import numpy as np
import pytest
from common.image_files import with_orientation
from PIL import Image, ImageOps

from jaxcnn.data import Preprocessing
from jaxcnn.data.decode import Center, decode

SHAPES = [(201, 333), (333, 200), (1201, 801)]
"""(height, width) as stored; the last one is decoded at 1/4 or less for a small view."""


def preprocessing(image_shape, size, resize="bilinear", fit="crop", interpolation="area", ratio=1.0):
    return Preprocessing((*image_shape, 3), size, resize, (0.0,) * 3, (1.0,) * 3, fit, ratio, interpolation)


def marked(shape, marks, sigma):
    """Returns a gray image with a white spot around each mark (x, y)."""
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    light = sum(np.exp(-((x - mx) ** 2 + (y - my) ** 2) / (2 * sigma**2)) for mx, my in marks)
    return np.repeat(np.round(255 * np.clip(light, 0, 1))[..., None], 3, axis=2).astype(np.uint8)


def centers(image, many):
    """Returns (x, y) of the center of light of each spot that is completely inside the image."""
    gray = image[..., 0].astype(np.float64)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((gray > 20).astype(np.uint8))
    y, x = np.mgrid[: gray.shape[0], : gray.shape[1]] + 0.5
    found = []
    for k in range(1, many + 1):
        if k >= len(stats):
            break
        left, top, width, height, _ = stats[k]
        if left > 0 and top > 0 and left + width < gray.shape[1] and top + height < gray.shape[0]:
            weight = gray * (labels == k)
            found.append(((x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()))
    return np.array(found)


CASES = [
    *itertools.product(["crop", "pad", "stretch"], ["area", "bilinear"], [("bilinear", (64, 80))]),
    ("crop", "area", ("bilinear", (96, 96))),
    ("stretch", "bicubic", ("bilinear", (50, 130))),
    ("crop", "area", ("pad", (91, 101))),
    ("pad", "bilinear", ("pad", (64, 97))),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("fit", "interpolation", "resize"), CASES, ids=str)
def test_marks_seen_by_the_network_are_where_the_photo_has_them(tmp_path, shape, fit, interpolation, resize):
    stored = (64, 80)
    sees = preprocessing(stored, resize[1], resize[0], fit, interpolation, ratio=0.9)
    sigma = min(shape) / 50
    marks = [(shape[1] * a, shape[0] * b) for a, b in ((0.4, 0.4), (0.61, 0.42), (0.5, 0.52), (0.39, 0.6), (0.6, 0.61))]
    for orientation in (1, 3, 6) if shape[0] > 1000 else (1, 2, 5, 8):
        file = tmp_path / f"{orientation}.jpg"
        Image.fromarray(marked(shape, marks, sigma)).save(file, quality=98, exif=with_orientation(orientation))
        upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
        photo = sees.photo(file)
        assert photo.size == upright.shape[:2]
        np.testing.assert_array_equal(photo.image, sees.read(file))
        assert photo.image.shape == (*stored, 3)
        network_input = np.asarray(sees(photo.image[None]))[0] * 255
        expected, found = centers(upright, 5), photo.to_photo(centers(network_input, 5))
        assert len(found) >= 3
        distance = np.linalg.norm(expected[None] - found[:, None], axis=2).min(axis=1)
        pixel = max(photo.size[0] / stored[0], photo.size[1] / stored[1])
        np.testing.assert_array_less(distance, 0.1 * pixel)
        original = photo.original()
        assert original.shape == upright.shape
        assert abs(original.astype(int) - upright).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(803, 1206), (801, 1201), (806, 1207)], ids=str)
def test_reduced_decoding_of_odd_sizes_is_exact_to_a_tenth_of_a_pixel(tmp_path, shape, orientation):
    file = tmp_path / "photo.jpg"
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    ramps = np.stack([x * 250 / shape[1], y * 250 / shape[0], np.full(shape, 128.0)], axis=2)
    Image.fromarray(np.round(ramps).astype(np.uint8)).save(file, quality=100, subsampling=0, exif=with_orientation(orientation))
    photo = preprocessing((50, 70), (50, 70), fit="crop").photo(file)
    upright = photo.original().astype(np.float64)
    places = np.stack(np.meshgrid(np.arange(70) + 0.5, np.arange(50) + 0.5), axis=2)
    column, row = photo.to_photo(places).transpose(2, 0, 1)
    slopes = [np.polyfit(np.arange(n) + 0.5, upright[..., c].mean(axis=axis), 1)
              for c in (0, 1) for n, axis in ((upright.shape[1], 0), (upright.shape[0], 1))]  # fmt: skip
    for c in (0, 1):
        (across, at_left), (down, at_top) = slopes[2 * c : 2 * c + 2]
        level = at_left + at_top - upright[..., c].mean()  # a plane through the image
        expected = level + across * column + down * row
        difference = (photo.image[..., c] - expected)[5:-5, 5:-5].mean()
        assert abs(difference) < 0.1 * max(abs(across), abs(down)) * photo.size[0] / 50


@pytest.mark.parametrize(("fit", "interpolation", "resize"), CASES, ids=str)
def test_map_of_the_input_covers_the_part_of_the_photo_that_it_shows(tmp_path, fit, interpolation, resize):
    file, shape = tmp_path / "photo.png", (203, 330)
    Image.fromarray(np.full((*shape, 3), 255, np.uint8)).save(file)
    photo = preprocessing((64, 80), resize[1], resize[0], fit, interpolation, ratio=0.9).photo(file)
    height, width = resize[1]
    values = (np.arange(height)[:, None] // 9 * 15 + np.arange(width)[None] // 9).astype(np.uint8) % 250
    photo_map = photo.map_to_photo(values)
    assert photo_map.shape == shape
    top, left = ((height - 64) // 2, (width - 80) // 2) if resize[0] == "pad" else (0, 0)
    corners = photo.to_photo(
        np.array([[left, top], [width - (width - 80 - left) * (left > 0), height - (height - 64 - top) * (top > 0)]])
    )
    x, y = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    shown = (x > corners[0, 0]) & (x < corners[1, 0]) & (y > corners[0, 1]) & (y < corners[1, 1])
    np.testing.assert_array_equal(photo_map != 255, shown)
    centers_in_photo = photo.to_photo(np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=2))
    inside = ((centers_in_photo > np.maximum(corners[0], 0)) & (centers_in_photo < np.minimum(corners[1], shape[::-1]))).all(
        axis=2
    )
    column, row = np.floor(centers_in_photo[inside]).astype(int).T
    agreement = photo_map[row, column] == values[inside]
    assert agreement.mean() > 0.9  # except where a pixel of the photo crosses an edge between two values
    assert 0.3 < shown.mean() <= 1
    np.testing.assert_array_equal(photo.map_to_photo(values[::2, ::2][: height // 2, : width // 2]) != 255, shown)


def test_photo_that_is_gone_or_damaged_is_refused_by_name(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(file)
    photo = preprocessing((8, 8), (8, 8)).photo(file)
    np.testing.assert_array_equal(photo.image, decode(file.read_bytes(), "", 3, Center((8, 8))))
    file.unlink()
    with pytest.raises(Exception, match=r"photo\.png: can't be read"):
        photo.original()


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (70, 70)])
@pytest.mark.parametrize(("fit", "resize"), [("pad", "bilinear"), ("pad", "pad"), ("stretch", "pad"), ("crop", "bilinear")])
def test_pixels_inside_a_white_photo_are_white_and_those_of_the_padding_black(tmp_path, shape, fit, resize):
    cv2.imwrite(str(file := tmp_path / "white.png"), np.full((*shape, 3), 255, np.uint8))
    sees = preprocessing((48, 48), (64, 72), resize, fit)
    photo = sees.photo(file)
    light = np.asarray(sees(photo.image[None]))[0, ..., 0]
    inside = photo.inside(64, 72)
    assert (light[~inside] < 0.51).all()  # an edge pixel may be a mixture
    assert (light[inside] > 0.49).all()
    is_padded = resize == "pad" or (fit == "pad" and shape[0] != shape[1])
    assert inside.all() != is_padded

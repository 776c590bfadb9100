import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxcnn.report import overlays

RNG = np.random.default_rng(0)


def test_colors_are_fixed_and_distinct_and_not_gray():
    colors = overlays.class_colors(21)
    np.testing.assert_array_equal(overlays.class_colors(255)[:21], colors)
    assert colors.dtype == np.uint8
    assert min(abs(one.astype(int) - other).max() for one, other in itertools.combinations(colors, 2)) >= 30
    assert (np.ptp(colors, axis=1) > 40).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_map_is_blended_with_constant_opacity_except_for_void_pixels(channels):
    image = RNG.integers(0, 256, (20, 30, channels), dtype=np.uint8)
    classes = RNG.choice([0, 3, 255], (20, 30)).astype(np.uint8)
    before = image.copy()
    colors = RNG.integers(0, 256, (5, 3), dtype=np.uint8)
    drawn = overlays.draw_map(image, classes, colors).astype(int)
    np.testing.assert_array_equal(image, before)
    plain = (image if channels == 3 else np.repeat(image[..., :1], 3, axis=2)).astype(int)
    np.testing.assert_array_equal(drawn[classes == 255], plain[classes == 255])
    for k in (0, 3):
        color = colors[k].astype(int)
        np.testing.assert_allclose(drawn[classes == k] - color, 0.55 * (plain[classes == k] - color), atol=0.51)


@pytest.mark.parametrize("draw", [overlays.draw_map, overlays.draw_outlines])
def test_map_with_another_size_or_unknown_classes_is_refused(draw):
    image = np.zeros((4, 6, 3), np.uint8)
    for classes in (np.zeros((6, 4), np.uint8), np.full((4, 6), 5, np.uint8)):
        with pytest.raises(ValueError, match="a map"):
            draw(image, classes, overlays.class_colors(5))


@pytest.mark.parametrize(("size", "width"), [((40, 60), 1), ((1100, 1500), 3)])
def test_outlines_are_on_both_sides_of_the_borders_in_the_color_of_the_class_there(size, width):
    image = np.full((*size, 3), 128, np.uint8)
    classes = np.zeros(size, np.uint8)
    classes[:, 30:] = 4
    classes[:, 50:] = 255  # its border is not one between two classes
    colors = overlays.class_colors(5)
    drawn = overlays.draw_outlines(image, classes, colors)
    expected = image.copy()
    expected[:, 30 - width : 30] = colors[0]
    expected[:, 30 : 30 + width] = colors[4]
    np.testing.assert_array_equal(drawn, expected)


def test_pixels_near_another_class_are_outlines():
    classes = RNG.choice([0, 1, 4, 255], (20, 30), p=[0.8, 0.1, 0.05, 0.05]).astype(np.uint8)
    image, colors = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8), overlays.class_colors(5)
    drawn = overlays.draw_outlines(image, classes, colors)
    for row, column in itertools.product(range(20), range(30)):
        beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        near = {int(classes[at]) for at in [(row, column), *beside] if 0 <= at[0] < 20 and 0 <= at[1] < 30} - {255}
        border = len(near) > 1 and classes[row, column] != 255
        np.testing.assert_array_equal(drawn[row, column], colors[classes[row, column]] if border else image[row, column])


def test_palette_image_has_the_classes_as_pixels_and_their_colors(tmp_path):
    classes = RNG.choice([0, 3, 255], (20, 30)).astype(np.uint8)
    colors = overlays.class_colors(5)
    overlays.palette_image(classes, colors).save(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as read:
        assert read.mode == "P"
        np.testing.assert_array_equal(read, classes)
    shown = cv2.imread(str(tmp_path / "map.png"))[..., ::-1]  # another library, which applies the palette
    np.testing.assert_array_equal(shown[classes != 255], colors[classes[classes != 255]])
    assert not (colors == shown[classes == 255][0]).all(axis=1).any()


def test_boxes_are_outlined_in_the_color_of_their_class_with_its_name_and_rows_without_a_box_are_skipped():
    image = np.full((120, 160, 3), 128, np.uint8)
    boxes = np.array([[40, 50, 100, 110], [5, 5, 20, 20]], np.float32)
    drawn = overlays.draw_boxes(image, boxes, np.array([2, -1]), ("ant", "bee", "chât"))
    color = overlays.class_colors(3)[2]
    for row, column in ((50, 70), (109, 70), (80, 40), (80, 99)):
        np.testing.assert_array_equal(drawn[row, column], color)
    assert (drawn[52:108, 42:98] == 128).all()  # inside
    assert (drawn[:30] == 128).all()  # no second box
    name = (drawn[35:50, 40:80] == color).all(axis=2)
    assert 0.1 < name.mean() < 0.95  # letters on a background in the color of the class
    np.testing.assert_array_equal(drawn, overlays.draw_boxes(image, boxes, np.array([2, -1]), ("", "", "chat")))


def test_names_of_boxes_at_the_border_stay_inside_the_image():
    image = np.zeros((60, 80, 1), np.uint8)
    for box in ([0, 0, 80, 60], [60, 0, 80, 20], [0, 50, 10, 60]):
        drawn = overlays.draw_boxes(image, np.array([box], np.float32), np.array([0]), ("name",))
        ground = (drawn == overlays.class_colors(1)[0]).all(axis=2)
        assert ground.sum() > 150


def test_caption_is_below_the_unchanged_image():
    image = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    drawn = overlays.draw_caption(image, ["97.20%  cat", "2.80%  a dog with a long name"])
    np.testing.assert_array_equal(drawn[:20, :30], image)
    below = drawn[20:]
    assert drawn.shape[1] > 30  # as wide as the text
    assert (below[..., 0] < 100).any(axis=1).sum() > 12  # two lines of letters
    assert (drawn[:20, 30:] == 255).all()

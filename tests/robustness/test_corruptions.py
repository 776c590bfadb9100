"""The corruptions: equal to the original's with the same random numbers, functions of (image, seed, index), in both forms."""

import colorsys
import functools
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from jaxcnn.errors import UserError
from jaxcnn.robustness import COUNTED, FORMS, NAMES, corrupt, corruptions, form_of
from jaxcnn.robustness.blur import moved, zoomed
from jaxcnn.robustness.frost import frost_textures

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/corruptions.json").read_text(encoding="utf-8"))
ORDERED = [*NAMES[:4], "motion_blur", "zoom_blur", *NAMES[10:12], *NAMES[13:17]]  # of others, the published constants are not


@functools.cache
def photo(form):
    """A photograph, 224×224 pixels for imagenet_c, 32×32 for cifar_c."""
    image = load_sample_image("china.jpg")[100:324, 200:424]
    return np.ascontiguousarray(image if form == "imagenet_c" else image[::7, ::7])


def gray(level, side=32):
    return np.full((side, side, 3), level, np.uint8)


def change(image, corrupted):
    return np.abs(corrupted.astype(int) - image).mean()


class Legacy(np.random.RandomState):
    """NumPy's former random numbers, which the original draws, with the method names of a Generator."""

    integers = np.random.RandomState.randint


# ── The original ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "frost"])
def test_corruptions_equal_the_originals_with_the_same_random_numbers(name, form, monkeypatch):
    generator = np.random.default_rng if name == "impulse_noise" else Legacy  # scikit-image's own generator
    monkeypatch.setattr(corruptions, "_generator", lambda *key: generator(19))
    image = photo(form)
    at = np.array([(3, 5), (4, 1), (2, 2)]).T * len(image) // 8
    for severity, (expected_change, *expected_pixels) in enumerate(GOLDEN[form][name], start=1):
        corrupted = corrupt(image, name, severity, seed=0, index=0)
        tolerance = 2 if name == "snow" else 1  # values are truncated; snow is the sum of two rounded layers
        np.testing.assert_allclose(corrupted[*at].ravel(), expected_pixels, atol=tolerance, rtol=0)
        assert change(image, corrupted) == pytest.approx(expected_change, rel=0.01, abs=0.002)


def test_golden_values_cover_everything_but_frost():
    for form in FORMS:
        assert {*GOLDEN[form], "frost"} == set(NAMES)
        assert {len(rows) for rows in GOLDEN[form].values()} == {5}


def test_15_corruptions_are_counted_and_4_are_for_validation():
    assert (len(NAMES), len(COUNTED)) == (19, 15)
    assert set(NAMES) - set(COUNTED) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}


# ── Functions of (image, seed, index) ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_keeps_shape_and_dtype_and_depends_on_nothing_else(name, form):
    images = [np.random.default_rng(i).integers(0, 256, (33, 47, 3), np.uint8) for i in range(2)]
    for image in images:
        image.flags.writeable = False
    for severity in (1, 4, 5):
        first = [corrupt(image, name, severity, 3, index, form) for index, image in enumerate(images)]
        np.random.default_rng().normal(size=3)
        again = [corrupt(images[index], name, severity, 3, index, form) for index in (1, 0)][::-1]
        np.testing.assert_array_equal(first, again)
        assert [(x.shape, x.dtype) for x in first] == [((33, 47, 3), np.uint8)] * 2
        assert not np.array_equal(first, images)


@pytest.mark.parametrize(
    "name", ["gaussian_noise", "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"]
)
def test_seeds_indices_and_severities_have_independent_random_numbers(name):
    image = photo("cifar_c")
    results = [corrupt(image, name, 3, seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert all(not np.array_equal(a, b) for i, a in enumerate(results) for b in results[:i])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_images_can_be_corrupted(name, form):
    smallest = photo("cifar_c")[: corruptions.SMALLEST_SIDE, : corruptions.SMALLEST_SIDE]
    for severity in range(1, 6):
        assert corrupt(smallest, name, severity, 0, 0, form).shape == smallest.shape


@pytest.mark.parametrize("name", ORDERED)
def test_higher_severities_change_the_image_more(name):
    image = photo("cifar_c")
    for form in FORMS:
        changes = [
            np.mean([change(image, corrupt(image, name, severity, 0, i, form)) for i in range(8)]) for severity in range(1, 6)
        ]
        assert (np.diff(changes) > 0).all(), changes


@pytest.mark.parametrize("name", NAMES)
def test_a_black_and_a_white_image_can_be_corrupted(name):
    for level in (0, 255):
        for severity in range(1, 6):
            assert corrupt(gray(level), name, severity, 0, 0).shape == (32, 32, 3)


# ── The form ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "form"),
    [((28, 28), "cifar_c"), ((32, 32), "cifar_c"), ((64, 64), "cifar_c"), ((84, 500), "cifar_c"), ((85, 85), "imagenet_c"),
     ((224, 224), "imagenet_c"), ((299, 299), "imagenet_c")],
)  # fmt: skip
def test_the_form_follows_from_the_size(size, form):
    assert form_of(*size) == form
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(corrupt(image, "contrast", 2, 0, 0), corrupt(image, "contrast", 2, 0, 0, form))


@pytest.mark.parametrize("name", sorted({*COUNTED} - {"zoom_blur"}))  # its factors are relative to the size
def test_imagenets_constants_change_small_images_more(name):
    image = photo("cifar_c")
    mild, strong = (
        np.mean([change(image, corrupt(image, name, 5, 0, i, form)) for i in range(8)]) for form in ("cifar_c", "imagenet_c")
    )
    assert strong > 1.05 * mild


# ── Formulas ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "scale"), [("gaussian_noise", 0.08), ("shot_noise", np.sqrt(100 / 255 / 100)), ("speckle_noise", 100 / 255 * 0.12)]
)
def test_noise_has_the_published_standard_deviation(name, scale):
    noise = corrupt(gray(100, 200), name, 3, 0, 0, "cifar_c").astype(float) - 99.5  # values are truncated
    assert noise.mean() == pytest.approx(0, abs=0.25)
    assert noise.std() == pytest.approx(255 * scale, rel=0.02)


def test_impulse_noise_replaces_the_published_share():
    corrupted = corrupt(gray(100, 200), "impulse_noise", 5, 0, 0, "imagenet_c")
    for level in (0, 255):
        assert (corrupted == level).mean() == pytest.approx(0.27 / 2, rel=0.03)
    assert (corrupted == 100).mean() == pytest.approx(0.73, rel=0.01)


def test_brightness_and_saturation_change_one_coordinate_of_hsv():
    image = photo("cifar_c")
    brighter, saturated = corrupt(image, "brightness", 3, 0, 0), corrupt(image, "saturate", 4, 0, 0)
    for pixel, bright, vivid in zip(*(x.reshape(-1, 3)[::37] / 255 for x in (image, brighter, saturated)), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        np.testing.assert_allclose(bright, colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1)), atol=1.01 / 255)
        np.testing.assert_allclose(vivid, colorsys.hsv_to_rgb(hue, min(2 * saturation + 0.1, 1), value), atol=1.01 / 255)


def test_contrast_scales_the_differences_to_the_mean():
    image = photo("cifar_c")
    mean = image.mean((0, 1))
    np.testing.assert_allclose(corrupt(image, "contrast", 5, 0, 0), mean + 0.15 * (image - mean) - 0.5, atol=0.51)


def test_motion_blur_spreads_a_point_as_half_a_gaussian_along_a_line():
    point = np.zeros((9, 9), np.uint8)
    point[4, 4] = 255
    weights = np.exp(-(np.arange(5) ** 2) / (2 * 1.5**2))
    expected = np.rint(255 * weights / weights.sum())
    np.testing.assert_array_equal(moved(point, 2, 1.5, 0)[4], [*expected[::-1], 0, 0, 0, 0])  # reads to the right
    np.testing.assert_array_equal(moved(point, 2, 1.5, -90)[:, 4], [0, 0, 0, 0, *expected])  # reads above
    assert (moved(gray(200), 9, 2.5, 33) == 200).all()  # the border is repeated


def test_zooming_keeps_the_center():
    ramp = np.broadcast_to(np.arange(33.0), (33, 33))
    np.testing.assert_allclose(zoomed(ramp, 1.0), ramp)
    np.testing.assert_allclose(zoomed(ramp, 33 / 17)[16], np.linspace(8, 24, 33))


def test_pixelation_has_blocks():
    corrupted = corrupt(photo("imagenet_c"), "pixelate", 5, 0, 0)  # a quarter of the size
    blocks = corrupted.reshape(56, 4, 56, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_allclose(
        blocks[:, 0, :, 0], cv2.resize(photo("imagenet_c"), (56, 56), interpolation=cv2.INTER_AREA), atol=1
    )


# ── Frost ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_frost_adds_one_of_the_first_five_photographs(tmp_path):
    for number in range(1, 7):  # the original never draws the sixth
        assert cv2.imwrite(str(tmp_path / f"frost{number}.{'png' if number < 4 else 'jpg'}"), gray(10 * number, 300))
    drawn = {int(corrupt(gray(100), "frost", 1, 0, i, "cifar_c", tmp_path)[0, 0, 0]) for i in range(60)}
    assert drawn == {100 + 2 * number for number in range(1, 6)}  # weights 1 and 0.2
    large = np.full((310, 20, 3), 100, np.uint8)  # larger than the photographs
    assert set(np.unique(corrupt(large, "frost", 5, 0, 0, "imagenet_c", tmp_path))) <= {int(60 + 7.5 * n) for n in range(1, 6)}


def test_photographs_of_frost_are_resized_to_a_fifth_for_small_images(tmp_path):
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes.reshape(8, 2, 20, 320, 3)[:, 1] = 250  # 20 rows of 0, 20 rows of 250, …
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        assert cv2.imwrite(str(tmp_path / name), stripes)
    for form, width in (("cifar_c", 4), ("imagenet_c", 20)):
        is_light = corrupt(gray(0, 60), "frost", 1, 0, 0, form, tmp_path)[:, 0, 0] > 25
        assert {*np.diff(np.flatnonzero(np.diff(is_light)))} == {width}


def test_generated_frost_has_the_photographs_colors():
    means = [(78, 149, 166), (201, 205, 214), (201, 205, 214), (138, 153, 165), (112, 123, 135)]
    np.testing.assert_allclose([texture.mean((0, 1)) for texture in frost_textures()], means, atol=3)
    assert all(texture.std((0, 1)).min() > 10 for texture in frost_textures())


def test_a_missing_photograph_of_frost_is_named(tmp_path):
    with pytest.raises(UserError, match=r"frost1\.png: can't be read \(No such file or directory\)"):
        corrupt(gray(0), "frost", 1, 0, 0, frost_folder=tmp_path)


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gausian_noise"}, 'no corruption "gausian_noise" (did you mean "gaussian_noise"'),
        ({"severity": 0}, "the severity of a corruption is 1, 2, 3, 4 or 5, got 0"),
        ({"severity": 2.5}, "the severity of a corruption is 1, 2, 3, 4 or 5, got 2.5"),
        ({"form": "cifar"}, 'no form "cifar" of the corruptions (did you mean "cifar_c"?); available: imagenet_c, cifar_c'),
        ({"seed": -1}, "the seed and the index of a corruption are 0 or more, got -1 and 0"),
        (
            {"image": np.zeros((32, 32, 1), np.uint8)},
            "corruptions are defined for RGB images (H, W, 3) uint8, got (32, 32, 1) uint8",
        ),
        ({"image": np.zeros((32, 32, 3), np.float32)}, "RGB images (H, W, 3) uint8, got (32, 32, 3) float32"),
        ({"image": np.zeros((32, 15, 3), np.uint8)}, "corruptions need images of at least 16×16 pixels, got 15×32"),
    ],
)
def test_a_wrong_argument_is_explained(arguments, message):
    valid = {"image": gray(0), "name": "fog", "severity": 1, "seed": 0, "index": 0}
    with pytest.raises(UserError, match=re.escape(message)):
        corrupt(**valid | arguments)

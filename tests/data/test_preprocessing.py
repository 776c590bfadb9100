import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from jaxcnn.data import ArraySource, DataSettings, Preprocessing, make_augmentation, make_preprocessing
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def source(images):
    return ArraySource(images, np.zeros(len(images), np.int32))


def settings(**changes):
    return DataSettings(**changes)


def plain(image_shape, size, resize="bilinear"):
    """Returns a preprocessing that only resizes and scales pixels to 0…1."""
    return Preprocessing(image_shape, size, resize, (0.0,) * image_shape[2], (1.0,) * image_shape[2])


def real_scans():
    """Returns four sheets of 16 scans each: real, smooth images of 32×32 pixels, uint8."""
    scans = np.round(load_digits().images[:64] * (255 / 16)).astype(np.uint8).reshape(4, 4, 4, 8, 8)
    return scans.transpose(0, 1, 3, 2, 4).reshape(4, 32, 32, 1)


def test_statistics_are_those_of_numpy_over_all_pixels():
    images = np.concatenate([RNG.integers(0, 50, (4100, 2, 2, 2)), RNG.integers(0, 256, (100, 2, 2, 2))]).astype(np.uint8)
    images[..., 1] = images[..., 1] // 4 + 100
    found = make_preprocessing(settings(), source(images))
    np.testing.assert_allclose(found.mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-9)


def test_statistics_of_one_color_do_not_divide_by_zero():
    found = make_preprocessing(settings(), source(np.full((3, 2, 2, 1), 255, np.uint8)))
    assert found.mean == (1.0,)
    assert np.isfinite(np.asarray(found(jnp.full((1, 2, 2, 1), 255, jnp.uint8)))).all()


def test_given_mean_and_std_are_used_and_one_that_is_not_given_is_measured():
    given = make_preprocessing(settings(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)), source(IMAGES))
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    half = make_preprocessing(settings(mean=(0.1, 0.2, 0.3)), source(IMAGES))
    np.testing.assert_allclose(half.std, (IMAGES / 255).std(axis=(0, 1, 2)), rtol=1e-9)
    assert half.mean == given.mean


def test_pixels_are_scaled_to_one_then_normalized_per_channel():
    preprocessing = make_preprocessing(settings(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)), source(IMAGES))
    found = preprocessing(jnp.asarray(IMAGES))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (IMAGES / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7], rtol=1e-5, atol=1e-6)


def test_augmentation_sees_resized_pixels_before_they_are_normalized():
    preprocessing = make_preprocessing(settings(image_size=9, resize="pad", mean=(0.5,) * 3, std=(0.5,) * 3), source(IMAGES))
    seen = []
    found = preprocessing(jnp.asarray(IMAGES), lambda images: seen.append(images) or images[:, ::-1])
    assert seen[0].shape == (5, 9, 9, 3)
    assert seen[0].max() > 1
    np.testing.assert_array_equal(found, preprocessing(jnp.asarray(IMAGES))[:, ::-1])


@pytest.mark.parametrize("size", [(16, 16), (11, 23), (8, 48), (64, 64), (33, 31)])
def test_bilinear_resize_is_that_of_pillow(size):
    # Pillow's BILINEAR is antialiased too, but in fixed point and rounded twice: the difference is at most 1 of 255
    scans = real_scans()
    expected = [np.asarray(Image.fromarray(scan[..., 0]).resize(size[::-1], Image.Resampling.BILINEAR)) for scan in scans]
    found = np.asarray(plain((32, 32, 1), size)(jnp.asarray(scans)))[..., 0] * 255
    np.testing.assert_allclose(found, np.stack(expected), atol=1.01)


def test_shrinking_is_antialiased():
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::2] = 255  # without a low-pass filter these would become black or white
    found = np.asarray(plain((32, 32, 1), (8, 8))(jnp.asarray(stripes)))
    np.testing.assert_allclose(found[:, :, 1:-1], 0.5, atol=0.02)


@pytest.mark.parametrize("size", [(9, 9), (8, 10), (6, 7)])
def test_padding_centers_the_image_and_leaves_its_pixels(size):
    found = np.asarray(plain((6, 7, 3), size, "pad")(jnp.asarray(IMAGES))) * 255
    expected = np.zeros((5, *size, 3))
    top, left = (size[0] - 6) // 2, (size[1] - 7) // 2
    expected[:, top : top + 6, left : left + 7] = IMAGES
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_image_size_is_the_side_of_a_square_or_height_and_width_and_0_keeps_the_stored_size():
    assert make_preprocessing(settings(image_size=9), source(IMAGES)).input_shape == (9, 9, 3)
    assert make_preprocessing(settings(image_size=(9, 5)), source(IMAGES)).input_shape == (9, 5, 3)
    assert make_preprocessing(settings(image_size=(9, 8), resize="pad"), source(IMAGES)).input_shape == (9, 8, 3)
    assert make_preprocessing(settings(), source(IMAGES)).input_shape == (6, 7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resize": "pad", "image_size": 6}, "data.image_size: 6 is less than the images' 6×7"),
        ({"resize": "pad", "image_size": (6, 5)}, r"data.image_size: \(6, 5\) is less than the images' 6×7"),
        ({"mean": (0.5,)}, "data.mean: expected 3 values, one per channel, got 1"),
        ({"std": (0.5, 0.5)}, "data.std: expected 3 values, one per channel, got 2"),
        ({"std": (0.5, 0.0, 0.5)}, "data.std: expected a list, each item a finite number above 0, got"),
    ],
)
def test_setting_that_does_not_fit_the_images_is_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        make_preprocessing(settings(**changes), source(IMAGES))


def test_preprocessing_read_back_from_json_is_the_same():
    preprocessing = make_preprocessing(settings(image_size=(9, 12)), source(IMAGES))
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing


def test_preprocessing_is_the_same_inside_jit():
    preprocessing = make_preprocessing(settings(image_size=9), source(IMAGES))
    images = jnp.asarray(IMAGES)
    np.testing.assert_allclose(jax.jit(preprocessing)(images), preprocessing(images), rtol=1e-5, atol=1e-5)


# ── With maps and boxes ─────────────────────────────────────────────────────────────────────────────────────────────

MAPS = RNG.integers(0, 9, (5, 6, 7), dtype=np.uint8)
BOXES = np.array([[[1, 2, 4, 6], [0, 0, 7, 6], [0, 0, 0, 0]]] * 5, np.float32)
CLASSES = np.array([[2, 0, -1]] * 5, np.int32)
FIELDS = {"map": MAPS, "boxes": BOXES, "classes": CLASSES, "label": np.arange(5)}


@pytest.mark.parametrize("size", [(6, 7), (12, 21), (5, 9), (3, 3), (30, 31)])
def test_maps_are_resized_nearest_and_boxes_scaled_as_the_images_are(size):
    preprocessing = plain((6, 7, 3), size)
    images, fields = preprocessing.with_fields(jnp.asarray(IMAGES), jax.tree.map(jnp.asarray, FIELDS))
    np.testing.assert_array_equal(images, preprocessing(jnp.asarray(IMAGES)))
    expected = [np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.NEAREST)) for values in MAPS]
    np.testing.assert_array_equal(fields["map"], expected)
    np.testing.assert_allclose(fields["boxes"], BOXES * (np.array([size[1], size[0]] * 2) / [7, 6, 7, 6]), rtol=1e-6)
    np.testing.assert_array_equal(fields["classes"], CLASSES)
    np.testing.assert_array_equal(fields["label"], np.arange(5))


@pytest.mark.parametrize("size", [(6, 7), (9, 12), (8, 7)])
def test_padding_is_void_in_maps_and_shifts_boxes(size):
    above, before = (size[0] - 6) // 2, (size[1] - 7) // 2
    preprocessing = plain((6, 7, 3), size, "pad")
    images, fields = preprocessing.with_fields(jnp.asarray(IMAGES), jax.tree.map(jnp.asarray, FIELDS))
    np.testing.assert_array_equal(images, preprocessing(jnp.asarray(IMAGES)))
    inside = np.zeros(size, bool)
    inside[above : above + 6, before : before + 7] = True
    np.testing.assert_array_equal(np.asarray(fields["map"])[:, inside].reshape(5, 6, 7), MAPS)
    assert (np.asarray(fields["map"])[:, ~inside] == 255).all()
    np.testing.assert_array_equal(fields["boxes"][:, :2], BOXES[:, :2] + [before, above, before, above])
    assert not fields["boxes"][:, 2].any()


def test_fields_are_resized_then_augmented_in_pixels_of_the_input():
    preprocessing, key = plain((6, 7, 3), (12, 21)), jax.random.key(0)
    augment = make_augmentation([("horizontal_flip", {"p": 1.0})])
    seen = []

    def augmented(images, fields):
        seen.append(images)
        return augment.with_fields(images, fields, key)

    images, fields = preprocessing.with_fields(jnp.asarray(IMAGES), jax.tree.map(jnp.asarray, FIELDS), augmented)
    assert seen[0].max() > 1
    np.testing.assert_array_equal(images, preprocessing(jnp.asarray(IMAGES), lambda images: augment(images, key)))
    np.testing.assert_array_equal(fields["map"], np.repeat(np.repeat(MAPS, 2, 1), 3, 2)[:, :, ::-1])
    np.testing.assert_allclose(fields["boxes"][:, 0], [[21 - 12, 4, 21 - 3, 12]] * 5)

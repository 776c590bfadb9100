"""Compares each operation at a fixed strength with Pillow, OpenCV or a formula, on crops of a photograph."""

import functools
import os
from collections import Counter
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images

from jaxcnn.data import make_augmentation
from jaxcnn.data.augment import color, geometry, one_of_many
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
HEIGHT, WIDTH = 36, 48


def photos():
    """Returns crops of a photograph, some of them dark, low in contrast or uniform, and CIFAR-10 images if available."""
    china = load_sample_images().images[0]
    crops = [china[y : y + HEIGHT, x : x + WIDTH] for y, x in RNG.integers(0, (390, 590), (29, 2))]
    crops += [crops[0] // 3, 100 + crops[1] // 4, np.full_like(crops[0], 77)]
    file = Path(os.environ.get("JAXCNN_TEST_DATA", "nowhere")) / "cifar-10-batches-bin" / "test_batch.bin"
    if file.is_file():
        rows = np.fromfile(file, np.uint8).reshape(-1, 3073)[:16, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        crops += [np.pad(image, ((2, 2), (8, 8), (0, 0)), mode="reflect") for image in rows]
    return np.stack(crops)


PHOTOS = photos()
N = len(PHOTOS)


def with_pillow(operation):
    return np.stack([np.asarray(operation(Image.fromarray(photo))) for photo in PHOTOS])


def ours(operation, *strengths, images=PHOTOS, **settings):
    strengths = [jnp.full(len(images), value, jnp.float32) if np.isscalar(value) else value for value in strengths]
    return np.asarray(jax.jit(operation, static_argnames=tuple(settings))(jnp.asarray(images), *strengths, **settings))


def differences(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    return abs(found.astype(int) - expected.astype(int))


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (color.brightness, ImageEnhance.Brightness),
        (color.contrast, ImageEnhance.Contrast),
        (color.saturation, ImageEnhance.Color),
        (color.sharpness, ImageEnhance.Sharpness),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.0, 1.9])
def test_enhancements_equal_those_of_pillow(operation, reference, factor):
    difference = differences(ours(operation, factor), with_pillow(lambda photo: reference(photo).enhance(factor)))
    assert difference.max() <= 1  # float32 on both sides, but not the same order of operations everywhere
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("found", "reference"),
    [
        (lambda: ours(color.equalize), ImageOps.equalize),
        (lambda: ours(color.invert), ImageOps.invert),
        (lambda: ours(color.solarize, 128), lambda photo: ImageOps.solarize(photo, 128)),
        (lambda: ours(color.solarize, 30), lambda photo: ImageOps.solarize(photo, 30)),
        (lambda: ours(color.solarize, 256), lambda photo: photo),
        (lambda: ours(color.posterize, 1), lambda photo: ImageOps.posterize(photo, 1)),
        (lambda: ours(color.posterize, 4), lambda photo: ImageOps.posterize(photo, 4)),
        (lambda: ours(color.posterize, 8), lambda photo: photo),
        (lambda: ours(color.posterize, 0), lambda photo: photo.point(lambda value: 0)),
        (lambda: ours(color.grayscale), lambda photo: photo.convert("L").convert("RGB")),
    ],
    ids=[
        "equalize",
        "invert",
        "solarize",
        "solarize30",
        "solarize256",
        "posterize1",
        "posterize4",
        "posterize8",
        "posterize0",
        "grayscale",
    ],
)
def test_operations_on_integers_equal_those_of_pillow_exactly(found, reference):
    np.testing.assert_array_equal(found(), with_pillow(reference))


def test_autocontrast_equals_that_of_pillow_except_for_integer_quotients_that_pillow_rounds_down():
    found, expected = ours(color.autocontrast), with_pillow(ImageOps.autocontrast)
    least, most = (f(PHOTOS.astype(int), axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    whole = (PHOTOS - least) * 255 % np.maximum(most - least, 1) == 0
    difference = differences(found, expected)
    assert (difference[~whole] == 0).all()
    assert difference.max() <= 1
    np.testing.assert_array_equal(found.max(axis=(1, 2))[:-1][(most > least)[:-1, 0, 0]], 255)


@pytest.mark.parametrize("operation", [color.equalize, color.autocontrast, color.invert])
def test_operations_on_integer_valued_floats_agree_with_those_on_uint8(operation):
    floats = ours(operation, images=PHOTOS.astype(np.float32))
    assert floats.dtype == np.float32
    assert abs(floats - ours(operation)).max() < 1


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.25])
def test_hue_rotation_equals_that_of_opencv(turn):
    hsv = np.stack([cv2.cvtColor(photo.astype(np.float32), cv2.COLOR_RGB2HSV) for photo in PHOTOS])
    hsv[..., 0] = (hsv[..., 0] + 360 * turn) % 360
    expected = np.stack([cv2.cvtColor(photo, cv2.COLOR_HSV2RGB) for photo in hsv])
    assert abs(ours(color.hue, turn, images=PHOTOS.astype(np.float32)) - expected).max() < 0.01


@pytest.mark.parametrize("name", ["saturation", "hue", "grayscale"])
def test_color_operations_leave_gray_images_unchanged(name):
    images = RNG.integers(0, 256, (4, 5, 6, 1), np.uint8)
    arguments = () if name == "grayscale" else (jnp.full(4, 0.3),)
    np.testing.assert_array_equal(getattr(color, name)(jnp.asarray(images), *arguments), images)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_equals_that_of_opencv_and_is_close_to_that_of_pillow_inside(sigma):
    found = ours(color.gaussian_blur, sigma, images=PHOTOS.astype(np.float32), reach=8)
    expected = [cv2.GaussianBlur(p.astype(np.float32), (17, 17), sigma, borderType=cv2.BORDER_REPLICATE) for p in PHOTOS]
    assert abs(found - np.stack(expected)).max() < 0.01
    if sigma >= 1:  # Pillow approximates the Gaussian by three box blurs
        pillow = with_pillow(lambda photo: photo.filter(ImageFilter.GaussianBlur(sigma)))
        inside = (slice(None), slice(9, -9), slice(9, -9))
        assert abs(found - pillow)[inside].mean() < 1


MATRICES = {
    "identity": (1, 0, 0, 0, 1, 0),
    "shift": (1, 0, 5, 0, 1, -3),
    "shear": (1, 0.3, 0, 0, 1, 0),
    "both": (0.9, 0.25, 1.7, -0.2, 1.1, 4.3),
}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", MATRICES)
def test_affine_warp_equals_that_of_pillow(name, interpolation):
    matrix = MATRICES[name]
    matrices = jnp.broadcast_to(jnp.array(matrix, jnp.float32).reshape(2, 3), (N, 2, 3))
    found = ours(geometry.affine, matrices, interpolation=interpolation, fill=9)
    resample = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    settings = {"resample": resample, "fillcolor": (9, 9, 9)}
    expected = with_pillow(lambda photo: photo.transform(photo.size, Image.Transform.AFFINE, matrix, **settings))
    difference = differences(found, expected)
    if interpolation == "nearest":
        assert difference.max() == 0
    else:  # float32 compared with Pillow's double; both truncate
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_resized_crop_equals_resizing_a_box_with_pillow(interpolation):
    top, left, height, width = 3, 7, 20, 31
    resized = functools.partial(geometry.resized_crop, size=(18, 40), interpolation=interpolation)
    found = ours(lambda images, *part: resized(images, part), top, left, height, width)
    resample = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[interpolation]
    expected = with_pillow(lambda photo: photo.resize((40, 18), resample, box=(left, top, left + width, top + height)))
    difference = differences(found, expected)
    # Pillow rounds and clips after each of its two passes.
    assert difference.max() <= {"linear": 1, "cubic": 8}[interpolation]
    assert difference.mean() < 0.3


PILLOW = {
    "Identity": lambda photo, s: photo,
    "ShearX": lambda photo, s: _transform(photo, (1, s, 0, 0, 1, 0)),
    "ShearY": lambda photo, s: _transform(photo, (1, 0, 0, s, 1, 0)),
    "TranslateX": lambda photo, s: _transform(photo, (1, 0, s, 0, 1, 0)),
    "TranslateY": lambda photo, s: _transform(photo, (1, 0, 0, 0, 1, s)),
    "Rotate": lambda photo, s: photo.rotate(s, fillcolor=(128,) * 3),
    "Brightness": lambda photo, s: ImageEnhance.Brightness(photo).enhance(s),
    "Contrast": lambda photo, s: ImageEnhance.Contrast(photo).enhance(s),
    "Color": lambda photo, s: ImageEnhance.Color(photo).enhance(s),
    "Sharpness": lambda photo, s: ImageEnhance.Sharpness(photo).enhance(s),
    "Posterize": lambda photo, s: ImageOps.posterize(photo, int(s)),
    "Solarize": lambda photo, s: ImageOps.solarize(photo, s),
    "AutoContrast": lambda photo, s: ImageOps.autocontrast(photo),
    "Equalize": lambda photo, s: ImageOps.equalize(photo),
    "Invert": lambda photo, s: ImageOps.invert(photo),
}


def _transform(photo, matrix):
    return photo.transform(photo.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * 3)


STRENGTHS = {"ShearX": -0.27, "ShearY": 0.1, "TranslateX": 7, "TranslateY": -5, "Rotate": 27, "Brightness": 1.72,
             "Contrast": 0.3, "Color": 1.9, "Sharpness": 1.72, "Posterize": 3, "Solarize": 100}  # fmt: skip


def test_each_image_gets_its_own_operation_as_in_pillow():
    names = [one_of_many.NAMES[i % len(one_of_many.NAMES)] for i in range(N)]
    codes = jnp.array([one_of_many.CODES[name] for name in names], jnp.int32)
    strength = jnp.array([STRENGTHS.get(name, 0) for name in names], jnp.float32)
    found = np.asarray(jax.jit(one_of_many.apply)(PHOTOS, codes, strength))
    for name, photo, picture in zip(names, PHOTOS, found, strict=True):
        expected = np.asarray(PILLOW[name](Image.fromarray(photo), STRENGTHS.get(name, 0)))
        difference = abs(picture.astype(int) - expected.astype(int))
        if name == "Rotate":  # a position on the border of two pixels may be assigned to either
            assert (difference > 0).mean() < 0.01, name
        else:
            assert difference.max() <= (1 if name in ("AutoContrast", *one_of_many.NAMES[6:10]) else 0), name


MANY = 512
GRAY = jnp.full((MANY, 20, 30, 3), 200, jnp.uint8)


def test_cutout_is_a_square_centered_on_any_pixel_and_clipped_at_the_border():
    holes = np.asarray(jax.jit(make_augmentation([("cutout", {"size": 6, "fill": 7})]))(GRAY, KEY)) == 7
    assert (holes == holes[..., :1]).all()
    rows, columns = holes.any(axis=(2, 3)), holes.any(axis=(1, 3))
    np.testing.assert_array_equal(holes[..., 0], rows[:, :, None] & columns[:, None])
    for edges, length in ((rows, 20), (columns, 30)):
        sizes, starts = edges.sum(axis=1), edges.argmax(axis=1)
        assert sizes.max() == 6
        assert sizes.min() == 3  # the center is a pixel of the image, so half of the square is always inside
        centers = np.where(starts > 0, starts + 3, sizes - 3)
        assert (np.bincount(centers, minlength=length)[:length] > 0).all()
        assert abs(centers.mean() - (length - 1) / 2) < 5 * length / np.sqrt(12 * MANY)


def test_random_erasing_keeps_to_its_ranges_and_probability():
    settings = {"p": 0.5, "area": (0.1, 0.3), "aspect": (0.5, 2.0), "fill": "black"}
    holes = np.asarray(jax.jit(make_augmentation([("random_erasing", settings)]))(GRAY, KEY))[..., 0] == 0
    erased = holes.any(axis=(1, 2))
    assert abs(erased.sum() - MANY / 2) < 5 * np.sqrt(MANY / 4)
    height, width = holes.any(axis=2).sum(axis=1)[erased], holes.any(axis=1).sum(axis=1)[erased]
    np.testing.assert_array_equal(holes.sum(axis=(1, 2))[erased], height * width)
    share, aspect = height * width / 600, width / height
    assert share.min() > 0.08  # height and width are rounded
    assert share.max() < 0.33
    assert aspect.min() > 0.4
    assert aspect.max() < 2.5
    assert abs(share.mean() - 0.2) < 0.02
    assert abs(np.log(aspect).mean()) < 0.1


@pytest.mark.slow
def test_random_crop_to_a_size_shows_each_region_of_the_padded_images_equally_often():
    images = jnp.arange(1, 6 * 9 + 1, dtype=jnp.float32).reshape(1, 6, 9, 1)
    crops = np.asarray(geometry.random_crop(jnp.tile(images, (4000, 1, 1, 1)), jax.random.key(0), pad=1, size=(4, 7)))
    padded = np.pad(np.asarray(images[0]), ((1, 1), (1, 1), (0, 0)))
    regions = {padded[y : y + 4, x : x + 7].tobytes() for y in range(5) for x in range(5)}
    counts = Counter(crop.tobytes() for crop in crops)
    assert counts.keys() == regions
    assert all(abs(count - 160) < 5 * 160**0.5 for count in counts.values())
    with pytest.raises(UserError, match=r"images of 6×9 pixels, padded by 1, are smaller than 4×12$"):
        geometry.random_crop(images, jax.random.key(0), pad=1, size=(4, 12))


@pytest.mark.parametrize("size", [16, (16, 32)])
def test_random_resized_crop_shows_regions_of_the_given_area_and_aspect(size):
    across = 2 if isinstance(size, tuple) else 1  # width over height of the images and of the results
    rows, columns = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0 * across) / across, indexing="ij")
    images = jnp.broadcast_to(jnp.stack([rows, columns], axis=-1), (MANY, 32, 32 * across, 2))  # pixels encode their position
    settings = {"size": size, "area": (0.2, 0.6), "aspect": (0.5, 2.0)}
    found = np.asarray(jax.jit(make_augmentation([("random_resized_crop", settings)]))(images, KEY))
    assert found.shape == (MANY, 16, 16 * across, 2)
    found = found[:, :, ::across]
    height = (found[:, 12, 8, 0] - found[:, 4, 8, 0]) * 2  # away from the edges, where pixels are repeated
    width = (found[:, 8, 12, 1] - found[:, 8, 4, 1]) * 2
    area, aspect = height * width / 1024, width / height  # in units of `across` pixels; 1 without distortion
    assert area.min() > 0.17
    assert area.max() < 0.64
    assert abs(area.mean() - 0.4) < 0.03
    assert abs(np.log(aspect).mean()) < 0.1
    middle = found[:, 7:9, 7:9].mean(axis=(1, 2))
    assert (abs(middle.mean(axis=0) - 15.5) < 1).all()
    assert middle.std(axis=0).min() > 2


@pytest.mark.parametrize(
    ("entry", "matrix"),
    [
        (("rotate", {"degrees": 20.0}), lambda t: cv2.getRotationMatrix2D((0, 0), t, 1)),
        (("scale", {"factor": (0.7, 1.4)}), lambda t: np.array([[t, 0, 0], [0, t, 0]])),
        (("shear", {"slope": 0.3}), lambda t: np.array([[1, -t, 0], [0, 1, 0]])),
        (("translate", {"share": 0.2}), None),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_random_warps_stay_in_their_range_and_fix_the_center(entry, matrix):
    y, x = (grid.astype(np.float32) for grid in np.mgrid[0:41, 0:61])
    images = np.broadcast_to(np.stack([x, y], axis=-1) + 100, (256, 41, 61, 2))  # pixels encode their position
    found = np.asarray(jax.jit(make_augmentation([entry]))(jnp.asarray(images), KEY)) - 100
    center, right = found[:, 20, 30], found[:, 20, 34] - found[:, 20, 30]
    below = found[:, 24, 30] - found[:, 20, 30]
    if matrix is None:
        shift = (30, 20) - center
        np.testing.assert_array_equal(shift, np.round(shift))
        assert abs(shift).max(axis=0).tolist() == [12, 8]  # a fifth of the width, and of the height
        assert [len(np.unique(column)) for column in shift.T] == [25, 17]
        return
    assert abs(center - (30, 20)).max() < 1e-3
    seen = np.stack([right, below], axis=-1) / 4  # the linear part of result -> image
    inverse = np.linalg.inv(seen)
    name, settings = entry
    strength = {
        "rotate": np.degrees(np.arctan2(inverse[:, 0, 1], inverse[:, 0, 0])),
        "scale": inverse[:, 0, 0],
        "shear": -inverse[:, 0, 1],
    }[name]
    expected = np.stack([matrix(t)[:, :2] for t in strength])
    assert abs(inverse - expected).max() < 1e-3
    limits = settings["factor"] if name == "scale" else [sign * v for v in settings.values() for sign in (-1, 1)]
    low, high = limits
    assert low - 1e-3 <= strength.min() < low + 0.1 * (high - low)
    assert high + 1e-3 >= strength.max() > high - 0.1 * (high - low)

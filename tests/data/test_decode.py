import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from jaxcnn.data.decode import Center, RandomResizedCrop, decode, image_format, look
from jaxcnn.errors import UserError

PHOTO = Image.fromarray(load_sample_image("china.jpg")).resize((320, 214))  # a real photo


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data, mode="RGB"):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)).astype(int)


FORMATS = {
    "jpeg": encoded(PHOTO, "JPEG"),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "png": encoded(PHOTO, "PNG"),
    "webp": encoded(PHOTO, "WEBP"),
    "bmp": encoded(PHOTO, "BMP"),
    "gray": encoded(PHOTO.convert("L"), "JPEG"),
    "palette": encoded(PHOTO.convert("P"), "PNG"),
    "transparent": encoded(PHOTO.convert("RGBA"), "PNG"),
    "one bit": encoded(PHOTO.convert("1"), "PNG"),
    "16 bit": cv2.imencode(".png", np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)[1].tobytes(),
} | {f"exif {o}": encoded(PHOTO, "JPEG", exif=(lambda e: (e.__setitem__(0x0112, o), e)[1])(Image.Exif())) for o in range(1, 9)}


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"16 bit"}))
def test_decoded_image_equals_pillows(name):
    image = decode(FORMATS[name], name, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pillow(FORMATS[name]))


def test_gray_16_bit_and_cmyk_images_are_decoded():
    np.testing.assert_array_equal(decode(FORMATS["16 bit"], "", 1)[..., 0], np.asarray(PHOTO.convert("L")))
    np.testing.assert_array_equal(decode(FORMATS["gray"], "", 1)[..., 0], pillow(FORMATS["gray"], "L"))
    cmyk = encoded(PHOTO.convert("CMYK"), "JPEG")
    assert np.abs(decode(cmyk, "", 3) - pillow(cmyk)).max() <= 1  # rounding


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_truncated_image_is_refused_by_name(name, share):
    data = FORMATS[name]
    with pytest.raises(UserError, match=r"^some/file\.x: (the file is empty|not an image|the image is damaged or truncated)"):
        decode(data[: int(share * len(data))], "some/file.x", 3)


def test_decompression_bomb_is_refused_before_it_fills_the_memory():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(UserError, match="too large to decode"):
        decode(bomb, "bomb.png", 3)


@pytest.mark.parametrize("name", FORMATS)
def test_format_equals_pillows(name):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(FORMATS[name])))
    assert image_format(FORMATS[name], "") == (image.height, image.width, name in ("gray", "one bit", "16 bit"))


def test_jpeg_whose_header_claims_too_much_is_refused():
    frame = FORMATS["jpeg"].index(b"\xff\xc0")
    bomb = bytearray(FORMATS["jpeg"])
    bomb[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(UserError, match="too large to decode"):
        decode(bytes(bomb), "bomb.jpg", 3)


def test_format_is_that_of_the_upright_image():
    assert image_format(FORMATS["exif 6"], "") == (320, 214, False)
    assert image_format(FORMATS["16 bit"], "") == (214, 320, True)


def area_weights(start, stop, outputs, inputs):
    """Returns (outputs, inputs): the share of each output pixel of the range start…stop in each input pixel, by definition."""
    edges = np.linspace(start, stop, outputs + 1)
    pixels = np.arange(inputs)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * outputs / (stop - start)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_center_view_averages_over_the_area_that_it_shows(fit):
    """Pixels outside the image are black; edges are rounded to whole pixels of the image."""
    image = np.asarray(PHOTO)
    window = Center((64, 48), fit, ratio=0.875)(*image.shape[:2])
    seen = look(image, window).astype(int)
    down = area_weights(round(window.top), round(window.top + window.height), 64, image.shape[0])
    across = area_weights(round(window.left), round(window.left + window.width), 48, image.shape[1])
    expected = np.einsum("yh,hwc,xw->yxc", down, image, across)
    assert np.abs(seen - expected).max() <= 1.0
    if fit == "crop":  # resize the shorter side to 64 / 0.875, cut 64×48 out of the middle
        assert window.height == pytest.approx(214 * 0.875)
        assert window.width / window.height == pytest.approx(48 / 64)


def test_reduced_decoding_is_nearly_that_of_the_full_image():
    large = encoded(Image.fromarray(load_sample_image("china.jpg")), "JPEG", quality=95)  # 427×640
    view = Center((48, 48))
    full_image = decode(large, "", 3)
    expected = look(full_image, view(*full_image.shape[:2])).astype(int)
    assert np.abs(decode(large, "", 3, view) - expected).mean() < 3.0  # half a pixel of the reduced image


def test_random_crop_of_a_reduced_image_is_nearer_to_the_average_than_one_of_the_full_image():
    large = encoded(Image.fromarray(load_sample_image("china.jpg")), "JPEG", quality=95)
    full_image, errors = decode(large, "", 3), []
    for place in range(20):
        window = RandomResizedCrop((96, 96), (0.4, 0.6), (1.0, 1.1), (0, place))(427, 640)  # shrinks by 3.4 to 4.2
        assert window.height >= 2 * 96
        average = look(full_image, window._replace(averages=1.0)).astype(int)
        bilinear = look(full_image, window._replace(averages=9.0)).astype(int)
        reduced = decode(large, "", 3, lambda *_: window).astype(int)  # noqa: B023
        errors.append((np.abs(reduced - average).mean(), np.abs(bilinear - average).mean()))
    of_reduced, of_bilinear = np.mean(errors, axis=0)
    assert of_reduced < 0.7 * of_bilinear


def test_random_crops_have_the_areas_and_proportions_asked_for():
    windows = [RandomResizedCrop((8, 8), (0.2, 0.6), (0.75, 4 / 3), (0, place))(300, 400) for place in range(500)]
    areas = np.array([w.height * w.width for w in windows]) / (300 * 400)
    aspects = np.array([w.width / w.height for w in windows])
    assert 0.19 < areas.min() < 0.23
    assert 0.57 < areas.max() < 0.61
    assert abs(areas.mean() - 0.4) < 0.02  # uniform
    assert abs(np.log(aspects).mean()) < 0.03  # uniform in the logarithm, around 1
    assert all(w.top >= 0 and w.left >= 0 and w.top + w.height <= 300 and w.left + w.width <= 400 for w in windows)
    assert len(set(windows)) > 490
    assert windows[7] == RandomResizedCrop((8, 8), (0.2, 0.6), (0.75, 4 / 3), (0, 7))(300, 400)


def test_crop_that_fits_nowhere_becomes_the_largest_center():
    window = RandomResizedCrop((8, 8), (0.9, 1.0), (0.75, 4 / 3), (0, 0))(20, 400)
    assert (window.top, window.height) == (0, 20)
    assert window.width == pytest.approx(20 * 4 / 3)
    assert window.left == pytest.approx((400 - window.width) / 2)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("side", "resized"), [(64, 73), (96, 96), (200, 232)])  # shrinks much, a little, enlarges
def test_pillows_interpolation_gives_the_pixels_of_resizing_the_full_image_and_cutting_out_the_center(
    interpolation, side, resized
):
    view = Center((side, side), "crop", side / resized, interpolation)
    for photo in (PHOTO, PHOTO.rotate(90, expand=True)):
        width, height = (resized * length // min(photo.size) for length in photo.size)
        resized_photo = photo.resize((width, height), getattr(Image.Resampling, interpolation.upper()))
        left, top = round((width - side) / 2), round((height - side) / 2)
        expected = np.asarray(resized_photo.crop((left, top, left + side, top + side))).astype(int)
        found = decode(encoded(photo, "PNG"), "", 3, view)
        difference = np.abs(found - expected)  # ties, rounded twice: half a pixel off would be 3 and more
        assert difference.mean() < 0.2
        assert difference.max() <= 6


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_pillows_interpolation_stretches_and_pads(fit):
    image = np.asarray(PHOTO)[:, :, :1]
    found = look(image, Center((96, 96), fit, 1.0, "bicubic")(*image.shape[:2]))
    if fit == "pad":
        image = np.pad(image, ((53, 53), (0, 0), (0, 0)))
    expected = Image.fromarray(image[..., 0]).resize((96, 96), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found[..., 0], expected)


@pytest.mark.parametrize("interpolation", ["area", "bilinear", "lanczos"])
@pytest.mark.parametrize("shape", [(1, 2000, 3), (2000, 1, 3), (40, 1000), (999, 30, 1)])
def test_long_image_is_padded_to_the_same_pixels_without_the_memory_for_its_padding(shape, interpolation, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    window = Center((48, 64), "pad", 1.0, interpolation)(*shape[:2])
    padded_first = look(image, window).astype(int)
    monkeypatch.setattr("jaxcnn.data.decode._LARGE", 0)
    in_two_steps = look(image, window)
    assert in_two_steps.shape == padded_first.shape
    assert np.abs(in_two_steps - padded_first).max() <= 1  # rounded twice


def test_image_of_one_row_takes_little_memory_to_pad():
    image = np.full((1, 60_001, 3), 255, np.uint8)  # padded it would take 10 GB
    tracemalloc.start()
    for interpolation in ("area", "bilinear"):
        window = Center((49, 49), "pad", 1.0, interpolation)(1, 60_001)
        assert window.width > 60_001, "by rounding"
        assert look(image, window).shape == (49, 49, 3)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()

"""Transparent images are composed onto white, in every format that supports transparency."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from jaxcnn.data.decode import decode, image_format
from tests.common.image_files import encoded, png, tiff

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(load_sample_image("china.jpg")).resize((64, 43)).convert("RGBA")
PHOTO.putalpha(Image.fromarray(RNG.integers(0, 256, (43, 64), dtype=np.uint8)))
PALETTE = PHOTO.convert("RGB").quantize(16)
RGBA = np.asarray(PHOTO)
COLOR16, ALPHA16 = (RNG.integers(0, 65536, (4, 5, count)).astype(np.uint16) for count in (3, 1))


def on_white(image):
    """Composes an image (…, colors and alpha), 0…255, onto white, by definition."""
    colors, alpha = image[..., :-1] / 255, image[..., -1:] / 255
    return 255 * (colors * alpha + 1 - alpha)


@pytest.mark.parametrize(
    ("kind", "image", "options"),
    [
        ("PNG", PHOTO, {}),
        ("PNG", PHOTO.convert("LA"), {}),
        ("PNG", PALETTE, {"transparency": bytes(range(0, 256, 16))}),
        ("PNG", PALETTE, {"transparency": 3}),
        ("PNG", PHOTO.convert("L"), {"transparency": int(np.median(np.asarray(PHOTO.convert("L"))))}),
        ("WEBP", PHOTO, {"lossless": True}),
        ("WEBP", PHOTO, {}),
        ("GIF", PALETTE, {"transparency": 3}),
        ("AVIF", PHOTO, {}),
        ("JPEG2000", PHOTO, {}),
        ("JPEG2000", PHOTO.convert("LA"), {}),
        ("TIFF", PHOTO, {}),
        ("TIFF", PHOTO, {"compression": "tiff_lzw"}),
        ("TIFF", PHOTO.convert("LA"), {}),
    ],
)
def test_transparency_is_composed_onto_white(kind, image, options):
    data = encoded(image, kind, **options)
    expected = on_white(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))
    assert np.abs(decode(data, "", 3) - expected).max() <= 0.51
    assert np.abs(decode(data, "", 1)[..., 0] - expected @ [0.299, 0.587, 0.114]).max() <= 1.1
    assert image_format(data, "") == (43, 64, image.mode in ("L", "LA"))


def test_black_drawing_on_transparency_does_not_vanish():
    drawing = np.zeros((32, 32, 4), np.uint8)
    drawing[8:24, 8:24, 3] = 255
    found = decode(encoded(Image.fromarray(drawing), "PNG"), "", 3)
    np.testing.assert_array_equal(found, 255 - drawing[..., 3:].repeat(3, 2))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_opaque_image_with_an_alpha_channel_equals_the_one_without(kind):
    rgb = PHOTO.convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    for channels in (1, 3):
        opaque = decode(encoded(rgb.convert("RGBA"), kind, **options), "", channels)
        np.testing.assert_array_equal(opaque, decode(encoded(rgb, kind, **options), "", channels))


@pytest.mark.parametrize(("extra", "meaning"), [(0, "unused"), (1, "premultiplied"), (2, "straight")])
def test_fourth_channel_of_a_tiff_means_what_its_tag_says(extra, meaning):
    premultiplied = np.concatenate([np.rint(RGBA[..., :3] * (RGBA[..., 3:] / 255)), RGBA[..., 3:]], axis=2).astype(np.uint8)
    stored = premultiplied if meaning == "premultiplied" else RGBA
    expected = stored[..., :3] if meaning == "unused" else on_white(RGBA)
    for data in (tiff(stored, extra=extra), tiff(stored.astype(np.uint16) * 257, extra=extra)):
        assert np.abs(decode(data, "", 3) - expected).max() <= 2  # Pillow divides by the opacity, and rounds
    window = (0, 65535)
    assert np.abs(decode(data, "", 3, window=window) - expected).max() <= 2


def test_16_bit_png_with_transparency_is_composed_onto_white():
    for samples, color_type in ((np.dstack([COLOR16, ALPHA16]), 6), (np.dstack([COLOR16[..., :1], ALPHA16]), 4)):
        data = png(5, 4, 16, color_type, [row.astype(">u2").tobytes() for row in samples])
        assert np.abs(decode(data, "", 3) - on_white(samples / 257)).max() <= 1.1
        assert np.abs(decode(data, "", 3, window=(0, 65535)) - on_white(samples / 257)).max() <= 1.1
        assert image_format(data, "") == (4, 5, color_type == 4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_one_transparent_value_of_a_gray_png_is_white(bits):
    values = np.arange(8) % 2**bits
    row = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(bits, "big")
    found = decode(png(8, 1, bits, 0, [row], (b"tRNS", b"\0\0")), "", 1).ravel()
    np.testing.assert_array_equal(found, np.where(values == 0, 255, values * 255 // (2**bits - 1)))


def test_one_transparent_color_of_a_png_is_white():
    for bits, kind in ((8, ">u1"), (16, ">u2")):
        samples = (np.arange(18).reshape(2, 3, 3) * (1 if bits == 8 else 3000)).astype(kind)
        data = png(
            3,
            2,
            bits,
            2,
            [row.tobytes() for row in samples],
            (b"tRNS", b"".join(int(value).to_bytes(2, "big") for value in samples[1, 1])),
        )
        found = decode(data, "", 3)
        expected = samples.astype(int) >> (bits - 8)
        expected[1, 1] = 255
        np.testing.assert_array_equal(found, expected)


def test_fourth_byte_of_a_bmp_without_a_mask_is_not_transparency():
    bgra = RGBA[::-1, :, [2, 1, 0, 3]].copy()
    bgra[..., 3] = 0
    size = np.array([40, 64, 43], "<u4").tobytes() + np.array([1, 32], "<u2").tobytes() + bytes(24)
    data = b"BM" + np.array([54 + bgra.size, 0, 54], "<u4").tobytes() + size + bgra.tobytes()
    np.testing.assert_array_equal(decode(data, "", 3), RGBA[..., :3])

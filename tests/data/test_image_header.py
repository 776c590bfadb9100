"""Image headers: orientation, metadata, other formats, damage."""

import contextlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from jaxcnn.data.decode import Center, decode, image_format
from jaxcnn.data.image_header import without_png_metadata
from jaxcnn.errors import UserError
from tests.common.image_files import encoded, png, png_chunk, tiff, with_orientation

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(load_sample_image("china.jpg")).resize((64, 42))


def upright(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("orientation", range(11))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_size_and_pixels_are_those_of_the_upright_image(kind, orientation):
    """0, 9 and 10 are not valid orientations."""
    data = encoded(PHOTO, kind, exif=with_orientation(orientation))
    expected = upright(data)
    assert image_format(data, "") == (*expected.shape[:2], False)
    np.testing.assert_array_equal(decode(data, "", 3), expected)


def moved_behind_frame_header(jpeg):
    """The same JPEG with its segment APP1 directly before the start of scan."""
    start, scan = jpeg.index(b"\xff\xe1"), jpeg.index(b"\xff\xda")
    stop = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    return jpeg[:start] + jpeg[stop:scan] + jpeg[start:stop] + jpeg[scan:]


@pytest.mark.parametrize("orientation", [3, 6])
def test_exif_is_found_wherever_it_is(orientation):
    exif = with_orientation(orientation)
    before = encoded(PHOTO, "JPEG", exif=exif)
    png_file = encoded(PHOTO, "PNG", exif=exif)
    start, end = png_file.index(b"eXIf") - 4, png_file.index(b"IEND") - 4
    stop = start + 12 + int.from_bytes(png_file[start : start + 4], "big")
    behind_pixels = png_file[:start] + png_file[stop:end] + png_file[start:stop] + png_file[end:]
    for data, other in ((before, moved_behind_frame_header(before)), (png_file, behind_pixels)):
        assert image_format(other, "") == image_format(data, "")
        np.testing.assert_array_equal(decode(other, "", 3), decode(data, "", 3))


def test_fill_bytes_before_a_marker_are_skipped():
    data = encoded(PHOTO, "JPEG")
    frame = data.index(b"\xff\xc0")
    filled = data[:frame] + b"\xff\xff\xff" + data[frame:]
    assert image_format(filled, "") == (42, 64, False)
    np.testing.assert_array_equal(decode(filled, "", 3), decode(data, "", 3))


def test_reduced_decoding_is_turned_too():
    large = PHOTO.resize((640, 420))
    data = encoded(large, "JPEG", exif=with_orientation(6), progressive=True)
    turned = encoded(large.transpose(Image.Transpose.ROTATE_270), "JPEG", quality=95)
    view = Center((40, 40))
    assert np.abs(decode(data, "", 3, view).astype(int) - decode(turned, "", 3, view)).mean() < 3


NOISE = [
    (b"iCCP", b"too short"),
    (b"gAMA", b"\0\0\0\0"),
    (b"sRGB", b"\0"),
    (b"tEXt", b"no key"),
    (b"eXIf", b"damaged"),
    (b"cHRM", b""),
]
NOISE += [(b"gAMA", (45455).to_bytes(4, "big")), (b"sBIT", b"\x09\x09\x09"), (b"zTXt", b"a\0\0damaged"), (b"pHYs", b"1")]


@pytest.mark.parametrize("chunk", NOISE)
def test_metadata_of_a_png_changes_neither_its_pixels_nor_prints_warnings(chunk, capfd):
    rows = [row.tobytes() for row in np.asarray(PHOTO)]
    noisy, plain = png(64, 42, 8, 2, rows, chunk), png(64, 42, 8, 2, rows)
    assert without_png_metadata(noisy) == plain
    damaged = noisy.replace(png_chunk(*chunk), png_chunk(*chunk)[:-1] + b"?")  # its checksum
    behind = plain.replace(b"\0\0\0\0IEND", png_chunk(*chunk) + b"\0\0\0\0IEND")
    for data in (noisy, damaged, behind):
        for channels in (1, 3):
            np.testing.assert_array_equal(decode(data, "", channels), decode(plain, "", channels))
    assert capfd.readouterr().err == ""


def test_animation_shows_its_first_image_and_a_tiff_its_first_page():
    others = [PHOTO.rotate(180), PHOTO.rotate(90)]
    for kind, options in (
        ("PNG", {}),
        ("PNG", {"default_image": True}),
        ("GIF", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
    ):
        several = encoded(PHOTO, kind, save_all=True, append_images=others, **options)
        one = encoded(PHOTO, kind, **({"lossless": True} if kind == "WEBP" else {}))
        difference = decode(several, "", 3).astype(int) - decode(one, "", 3)
        assert np.abs(difference).mean() < (8 if kind == "GIF" else 1e-9)  # GIF: one palette of all images


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "RGB"])
def test_tiff_of_every_color_space_equals_pillows(mode):
    image = PHOTO.convert(mode) if mode != "LAB" else Image.merge("LAB", PHOTO.split())
    data = encoded(image, "TIFF")
    np.testing.assert_array_equal(decode(data, "", 3), upright(data))
    assert image_format(data, "") == (42, 64, mode in ("1", "L"))


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_tiff_of_few_bits_uses_the_full_range(bits, photometric):
    values = np.arange(8) % 2**bits
    row = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(bits, "big")
    found = decode(tiff(values[None].astype(np.uint8), bits=bits, data=row, photometric=photometric), "", 1).ravel()
    expected = values * 255 // (2**bits - 1)
    np.testing.assert_array_equal(found, expected if photometric else 255 - expected)


def test_cmyk_jpeg2000_and_cmyk_jpeg_are_decoded():
    for kind in ("JPEG", "JPEG2000"):
        data = encoded(PHOTO.convert("CMYK"), kind)
        assert np.abs(decode(data, "", 3).astype(int) - upright(data)).max() <= 1


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r" \(HEIC\); save it as JPEG, PNG or TIFF"),
        (b"\0\0\0\x0cjXL \r\n\x87\n\0\0\0\x14ftypjxl ", ""),
        (bytes(128) + b"DICM", r" \(DICOM\); save it as JPEG, PNG or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", ""),
        (b"P5\n4 4\n70000\n", ""),
        (b"P5\n0 4\n255\n", ": it has no pixels"),
        (b"II*\0\xff\xff\xff\xff", ""),
    ],
)
def test_what_is_cannot_be_decoded_is_refused_with_the_reason(start, what):
    with pytest.raises(UserError, match=f"^a: not an image that can be decoded{what}$"):
        decode(start + bytes(200), "a", 3, Center((4, 4)))


@pytest.mark.parametrize(("position", "value"), [(4, b"\x0c"), (5, b"\0\0")])
def test_jpeg_of_12_bits_or_no_height_is_not_called_damaged(position, value):
    data = bytearray(encoded(PHOTO, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + position : frame + position + len(value)] = value
    with pytest.raises(UserError, match=r"^a: not an image"):
        decode(bytes(data), "a", 3, Center((4, 4)))


FILES = [encoded(PHOTO, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")]
FILES += [encoded(PHOTO, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "tiff_deflate")]
FILES += [encoded(PHOTO.convert("RGBA"), kind, exif=with_orientation(6)) for kind in ("PNG", "WEBP", "AVIF", "TIFF")]
FILES += [tiff(np.arange(600).reshape(20, 30).astype(kind), code) for kind, code in (("<i2", 2), ("<f4", 3), ("<u2", 1))]
FILES += [cv2.imencode(".png", np.asarray(PHOTO).astype(np.uint16) * 257)[1].tobytes()]


@pytest.mark.parametrize("index", range(len(FILES)))
def test_damaged_image_is_decoded_or_refused_but_nothing_else(index):
    """Decoders raise various types: AVIF's raises RuntimeError, TIFF's TypeError."""
    for attempt in range(40):
        generator = np.random.default_rng((index, attempt))
        damaged = np.frombuffer(FILES[index], np.uint8).copy()
        positions = generator.integers(0, min(len(damaged), [60, 300, len(damaged)][attempt % 3]), 4)
        damaged[positions] = generator.integers(0, 256, 4)
        with contextlib.suppress(UserError):
            image = decode(damaged.tobytes(), "some/file.x", 3, Center((8, 8)), [(), (0, 500)][attempt % 2])
            assert image.shape == (8, 8, 3)

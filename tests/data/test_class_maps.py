"""Class files, and the decoding of class maps from files."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxcnn.data.class_maps import look_at_map, numbered_classes, read_class_file
from jaxcnn.data.decode import Center, RandomResizedCrop, look
from jaxcnn.errors import UserError

PALETTE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]


@pytest.fixture
def class_file(tmp_path):
    """Writes a class file and reads it."""

    def write(text, name="classes.csv"):
        (tmp_path / name).write_bytes(text.encode())
        return read_class_file(tmp_path / name)

    return write


def encoded(values, kind="png", mode=None, palette=None):
    image = Image.fromarray(np.asarray(values))
    if palette:
        image = Image.fromarray(np.asarray(values)).convert("P")
        image = Image.frombytes("P", image.size, np.asarray(values).tobytes())
        image.putpalette([channel for color in palette for channel in color])
    image = image.convert(mode) if mode else image
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def gray_png(values, bits):
    """Encodes values (H, W) with 1, 2 or 4 bits per pixel, as Pillow cannot."""
    height, width = values.shape
    rows = np.unpackbits(values[..., None], axis=-1)[..., -bits:].reshape(height, -1)
    rows = np.pad(np.packbits(rows, axis=-1), ((0, 0), (1, 0)))  # filter 0
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows.tobytes()))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )


def message(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ── Class files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_of_one_name_are_one_class_and_rows_named_void_are_void(class_file):
    classes = class_file(
        'name,value,color\nroad,7,#804080\nVoid,0,\nroad,8,"128 64 129"\n sky ,23,70;130;180\nvoid,255,#000000\n'
    )
    assert classes.names == ("road", "sky")
    assert dict(classes.values) == {7: 0, 8: 0, 23: 1, 0: 255, 255: 255}
    assert dict(classes.colors) == {0x804080: 0, 0x804081: 0, 0x4682B4: 1, 0: 255}
    assert classes.class_colors == ((128, 64, 128), (70, 130, 180))


@pytest.mark.parametrize("text", ["name\nsky\nroad\n", "\ufeffname,id\nsky,4\nroad,9\n"])
def test_without_values_they_are_the_order_of_the_rows(class_file, text):
    classes = class_file(text)
    assert classes.names == ("sky", "road")
    assert dict(classes.values) == {0: 0, 1: 1, 255: 255}
    assert classes.colors == {}
    assert classes.class_colors == ()


def test_text_file_has_one_name_per_line(class_file):
    classes = class_file("background\n\nblood cell\n", "classes.txt")
    assert classes.names == ("background", "blood cell")
    assert classes == numbered_classes(classes.source, ["background", "blood cell"])


def test_value_255_is_a_class_if_a_row_has_it(class_file):
    assert dict(class_file("name,value\nbackground,0\ncell,255\n").values) == {0: 0, 255: 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sky\nroad\n", "expected a header with the column name, got sky"),
        ("", "expected a header with the column name, got nothing"),
        ("name,colour\nsky,#000000\nroad,#010101\n", "unknown column 'colour' (did you mean \"color\"?)"),
        ("name,value\nsky,0\n", "expected 2 to 255 classes, got 1"),
        ("name\n" + "\n".join(map(str, range(256))), "expected 2 to 255 classes, got 256"),
        ("name,value\nsky,0\nroad,0\n", "line 3: the value 0 already denotes another class"),
        ("name,color\nsky,#000000\nroad,#000000\n", "line 3: the color #000000 already denotes another class"),
        ("name,color\nsky,#000000\nroad,\n", "the class 'road' has no color, but others have"),
        ("name,value\nsky,0\nroad,x\n", "line 3: expected a value from 0 to 65535, got 'x'"),
        ("name,value\nsky,0\nroad,70000\n", "line 3: expected a value from 0 to 65535, got '70000'"),
        ("name,color\nsky,blue\n", "line 2: expected a color such as #804080 or \"128 64 128\", got 'blue'"),
        ("name,color\nsky,1 2 300\n", "line 2: expected a color such as #804080 or \"128 64 128\", got '1 2 300'"),
        ("name,value\nsky\n", "line 2: the row has 1 fields, but the header has 2"),
        ("name,value\n,3\n", "line 2: the name is empty"),
    ],
)
def test_wrong_class_file(class_file, text, expected):
    assert expected in message(class_file, text)


def test_class_file_in_another_encoding(tmp_path):
    (tmp_path / "classes.csv").write_bytes("name\nforêt\nroute\n".encode("latin-1"))
    assert "the class file is not encoded in UTF-8" in message(read_class_file, tmp_path / "classes.csv")


# ── Maps ────────────────────────────────────────────────────────────────────────────────────────────────────────────

VALUES = np.random.default_rng(0).choice([0, 1, 2, 255], (7, 9)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "ppm"])
def test_gray_maps_contain_values(kind):
    classes = numbered_classes("names", ["sky", "road", "car"])
    np.testing.assert_array_equal(classes.decode(encoded(VALUES, kind), "map"), VALUES)


def test_gray_maps_of_other_depths(class_file):
    classes = class_file("name,value\nsky,0\nroad,1\ncar,1000\n")
    deep = np.array([[0, 1000], [1, 0]], np.uint16)
    np.testing.assert_array_equal(classes.decode(encoded(deep), "map"), [[0, 2], [1, 0]])
    bits = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(classes.decode(encoded(bits), "map"), bits.astype(np.uint8))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_maps_of_fewer_bits_contain_the_stored_values(bits):
    """Decoders expand such samples to the range 0 to 255; the class 3 of two bits would become 255, void."""
    values = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    names = [f"class {k}" for k in range(max(2, 2**bits))]
    np.testing.assert_array_equal(numbered_classes("names", names).decode(gray_png(values, bits), "map"), values)


def test_formats_that_state_another_maximum_are_refused():
    pgm = b"P5\n4 2\n20\n" + bytes(range(8))
    assert "a map needs samples of 8 or 16 bits" in message(numbered_classes("names", ["a", "b"]).decode, pgm, "a.pgm")


def test_palette_maps_contain_indices_without_colors_and_colors_with_them(class_file):
    indices = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    names = class_file("name\na\nb\nc\nd\n")
    np.testing.assert_array_equal(names.decode(encoded(indices, palette=PALETTE), "map"), indices)
    colors = class_file("name,color\na,#000000\nb,#800000\nc,#008000\nd,#808000\n")
    np.testing.assert_array_equal(colors.decode(encoded(indices, palette=PALETTE), "map"), indices)
    shuffled = [PALETTE[k] for k in (2, 0, 3, 1)]  # an image editor saves the same colors in another order
    new_indices = np.array([1, 3, 0, 2], np.uint8)[indices]
    np.testing.assert_array_equal(colors.decode(encoded(new_indices, palette=shuffled), "map"), indices)


def test_color_maps(class_file):
    indices = np.random.default_rng(1).integers(0, 4, (6, 5))
    pixels = np.array(PALETTE, np.uint8)[indices]
    colors = class_file("name,color\na,#000000\nb,#800000\nvoid,#008000\nd,#808000\n")
    expected = np.array([0, 1, 255, 2])[indices]
    np.testing.assert_array_equal(colors.decode(encoded(pixels), "map"), expected)
    np.testing.assert_array_equal(colors.decode(encoded(pixels, mode="RGBA"), "map"), expected)


def test_color_maps_with_equal_channels_contain_values_if_there_are_no_colors():
    classes = numbered_classes("names", ["sky", "road", "car"])
    np.testing.assert_array_equal(classes.decode(encoded(VALUES, mode="RGB"), "map"), VALUES)


def test_wrong_maps(class_file):
    plain = class_file("name\nsky\nroad\n")
    row, column = np.argwhere(VALUES == 2)[0]
    expected = f"a.png: the value 2 in row {row}, column {column} (from 0) is not in {plain.source}, which has 0, 1, 255"
    assert message(plain.decode, encoded(VALUES), "a.png") == expected
    pixels = np.array(PALETTE, np.uint8)[np.array([[0, 1], [2, 3]])]
    assert "the map has colors, but" in message(plain.decode, encoded(pixels), "a.png")
    colors = class_file("name,color\na,#000000\nb,#800000\nc,#008000\n")
    assert "the color #808000 in row 1, column 1 (from 0) is not in" in message(colors.decode, encoded(pixels), "a.png")
    assert "can't be read from the format JPEG, which may change values" in message(
        plain.decode, encoded(VALUES, "jpeg"), "a.jpg"
    )
    assert "the map is damaged" in message(plain.decode, b"not an image", "a.png")
    assert "the map is damaged" in message(plain.decode, encoded(VALUES)[:60], "a.png")
    clear = np.dstack([pixels, np.full((2, 2), 100, np.uint8)])
    assert "opaque colors; its pixels are RGBA" in message(colors.decode, encoded(clear), "a.png")


# ── Views ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(30, 40), (60, 50), (120, 160), (17, 200)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("interpolation", ["area", "bilinear"])
def test_view_of_a_map_shows_what_the_view_of_its_image_shows(size, fit, interpolation):
    """A map of two large rectangles; where the resized image is clearly one of them, so is the map."""
    classes = np.zeros((60, 80), np.uint8)
    classes[20:45, 30:70] = 1
    view = Center(size, fit, 0.875, interpolation)
    image = look((100 + 100 * classes)[..., None], view(60, 80))[..., 0].astype(int)
    seen = look_at_map(classes, view)
    assert seen.shape == size
    for level, k in ((100, 0), (200, 1), (0, 255)):
        assert (seen[abs(image - level) < 10] == k).all()
    assert (abs(image[..., None] - np.array([0, 100, 200])) < 10).any(axis=-1).mean() > 0.8


def test_random_crop_of_a_map():
    classes = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) % 251
    for place in range(5):
        view = RandomResizedCrop((24, 32), (0.2, 1.0), (0.75, 1.33), key=(0, place))
        window = view(48, 64)
        rows = int(window.top) + np.floor((np.arange(24) + 0.5) * window.height / 24).astype(int)
        columns = int(window.left) + np.floor((np.arange(32) + 0.5) * window.width / 32).astype(int)
        np.testing.assert_array_equal(look_at_map(classes.astype(np.uint8), view), classes[np.ix_(rows, columns)])


def test_view_of_a_map_in_full_size_is_the_map():
    np.testing.assert_array_equal(look_at_map(VALUES, Center(VALUES.shape, "stretch")), VALUES)

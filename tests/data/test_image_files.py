"""Which files in a folder are used as images, which are ignored, and that this is reported."""

import io
import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jaxcnn.config import changed, default_config
from jaxcnn.data import load
from jaxcnn.data.image_files import format_of
from jaxcnn.errors import UserError, printable

IMAGE = Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3))


def encoded(format):
    buffer = io.BytesIO()
    IMAGE.save(buffer, format)
    return buffer.getvalue()


PNG = encoded("PNG")


@pytest.fixture
def root(tmp_path):
    """Two classes of six PNG files."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(6):
            (tmp_path / name / f"{number}.png").write_bytes(PNG)
    return tmp_path


def loaded(root, **changes):
    settings = {"data.name": "folder", "data.root": str(root), "data.image_size": 32, "data.validation": 0.0}
    return load(changed(default_config(), settings | changes).data, seed=0)


def names(dataset):
    return {source.name(i) for source in dataset.parts().values() for i in range(len(source))}


# ── Formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix", ["", ".jfif", ".JFIF", ".img", ".1", ".image.orig"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"])
def test_image_is_recognized_by_its_content_whatever_its_suffix(root, format, suffix):
    (root / "a" / f"more{suffix}").write_bytes(encoded(format))
    dataset = loaded(root)
    assert f"{root}/a/more{suffix}" in names(dataset)
    assert dataset.notes == ()
    images = [source.read(i) for source in dataset.parts().values() for i in range(len(source)) if "more" in source.name(i)]
    assert [image.shape for image in images] == [(32, 32, 3)]


@pytest.mark.parametrize("format", ["ICO", "DDS", "SGI"])
def test_image_that_cannot_be_decoded_is_not_taken(root, format):
    (root / "a" / "more").write_bytes(encoded(format))
    dataset = loaded(root)
    assert len(names(dataset)) == 12
    (note,) = dataset.notes
    assert note.endswith(": a/more")


UNREADABLE = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n\0\0",
    "DICOM": bytes(128) + b"DICM\2\0",
    "Photoshop": b"8BPS\0\1\0\0",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
}


@pytest.mark.parametrize("format", UNREADABLE)
def test_images_of_formats_that_cannot_be_read_are_counted(root, format):
    for number in range(4):
        (root / "b" / f"{number}.x").write_bytes(UNREADABLE[format])
    dataset = loaded(root)
    assert len(names(dataset)) == 12
    assert dataset.notes == (
        f"ignored 4 images of a format that cannot be read on this system ({format}): b/0.x, b/1.x, b/2.x, …",
    )  # fmt: skip


def test_class_of_images_that_cannot_be_read_is_named_with_their_format(root):
    (root / "c").mkdir()
    (root / "c" / "1.heic").write_bytes(UNREADABLE["HEIC"])
    with pytest.raises(UserError, match=r"c: no readable images, only 1 of the format HEIC \(1.heic\)"):
        loaded(root)


def test_thumbnail_in_a_raw_photo_is_not_taken_for_the_photo(root):
    (root / "a" / "IMG_1.NEF").write_bytes(encoded("TIFF"))
    assert loaded(root).notes == ("ignored 1 image of a format that cannot be read on this system (camera raw): a/IMG_1.NEF",)


def test_files_that_are_not_images_are_counted(root):
    contents = {"notes.txt": b"text", "Thumbs.db": b"\xd0\xcf\x11\xe0", "README": b"BMW and P5", "script": b"", "x.xml": PNG}
    for name, content in contents.items():
        (root / "a" / name).write_bytes(content)
    os.mkfifo(root / "a" / "pipe")  # opening it would block
    (root / "a" / "link").symlink_to("nowhere")
    dataset = loaded(root)
    assert len(names(dataset)) == 12
    assert dataset.notes == ("ignored 7 files of other types: a/README, a/Thumbs.db, a/link, …",)


def test_truncated_file_of_a_common_format_stops_by_its_name(root):
    (root / "a" / "cut.jfif").write_bytes(encoded("JPEG")[:300])
    dataset = loaded(root)
    with pytest.raises(UserError, match=r"a/cut.jfif: not an image that can be decoded"):
        [source.read(i) for source in dataset.parts().values() for i in range(len(source))]


def test_suffix_of_a_image_is_believed(root):
    path = root / "a" / "empty.jpg"
    path.write_bytes(b"")
    assert format_of(str(path)) == "image"


# ── Folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


HIDDEN = [".ipynb_checkpoints", ".Trash-1000/files", "@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN/S-1", "deep/.thumbnails"]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("above", ["", "a"])
def test_hidden_folders_are_ignored(root, hidden, above):
    if above or hidden != HIDDEN[-1]:
        (root / above / hidden).mkdir(parents=True)
        (root / above / hidden / "1.png").write_bytes(PNG)
        dataset = loaded(root)
        assert dataset.class_names == ("a", "b")
        assert len(names(dataset)) == 12
        ignored = "/".join(("a", *hidden.split("/")[: 2 if "deep" in hidden else 1]))
        assert dataset.notes == ((f"ignored hidden folders in class folders: {ignored}",) if above else ())


def test_hidden_files_are_ignored(root):
    (root / "a" / "._1.png").write_bytes(b"\0\5\x16\7")
    (root / "a" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    dataset = loaded(root)
    assert len(names(dataset)) == 12
    assert dataset.notes == ()


def test_images_outside_of_class_folders_are_counted(root):
    (root / "1.png").write_bytes(PNG)
    (root / "2").write_bytes(PNG)
    assert loaded(root).notes == ("ignored 2 images outside of the class folders: 1.png, 2",)


# ── Names that are not UTF-8 ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cache", ["off", "disk"])
def test_names_that_are_not_utf_8_are_read_and_shown_with_their_bytes(root, cache):
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    for number in range(6):
        with open(os.fsencode(root) + b"/caf\xe9/\xff%d.png" % number, "wb") as file:
            file.write(PNG)
    with open(os.fsencode(root) + b"/a/\xe9.txt", "w") as file:
        file.write("no image")
    dataset = loaded(root, **{"data.cache": cache, "data.fit": "stretch"})
    assert dataset.class_names == ("a", "b", "caf\\xe9")
    texts = [*dataset.class_names, *names(dataset), *dataset.notes]
    assert f"{root}/caf\\xe9/\\xff0.png" in texts
    assert json.loads(json.dumps(texts, ensure_ascii=False).encode()) == texts  # as summary.json and a console require
    for source in dataset.parts().values():
        for index in range(len(source)):
            np.testing.assert_array_equal(source.read(index), np.asarray(IMAGE))


def test_error_about_a_file_whose_name_is_not_utf_8_can_be_printed(root):
    with open(os.fsencode(root) + b"/a/\xe9.png", "w") as file:
        file.write("no image")
    dataset = loaded(root)
    with pytest.raises(UserError, match=r"a/\\xe9.png: not an image") as mistake:
        [source.read(i) for source in dataset.parts().values() for i in range(len(source))]
    str(mistake.value).encode()
    assert str(UserError(os.fsdecode(b"caf\xe9 \xc3\xa9"))) == "caf\\xe9 é"
    assert printable(unicodedata.normalize("NFD", "é\n")) == unicodedata.normalize("NFD", "é\n")

"""Every row of the table "Bad input" in docs/data.md that is about images and folders; the other rows name their tests."""

import contextlib
import io
import os
import re
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from jaxcnn.data import DataSettings, Once, Order, Reading, load, make_preprocessing, make_reader
from jaxcnn.errors import UserError
from jaxcnn.train.devices import make_mesh

PHOTO = Image.fromarray(load_sample_image("flower.jpg")).resize((64, 48))


def jpeg(turn):
    buffer = io.BytesIO()
    PHOTO.rotate(turn).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def root():
    """Two classes of 10 photos, in a folder that every user may enter, unlike pytest's tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name in ("rose", "tulip"):
            Path(folder, name).mkdir()
            for i in range(10):
                Path(folder, name, f"{i}.jpg").write_bytes(jpeg(10 * i))
        yield Path(folder)


@contextlib.contextmanager
def as_ordinary_user():
    """Runs as the user nobody if the tests are run by root, who may read everything."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def loaded(root, **changes):
    settings = {"name": "folder", "root": str(root), "test": 0.2, "validation": 0.0, "image_size": 32, **changes}
    return load(DataSettings(**settings), seed=0)


def refused(root, **changes):
    """Returns the message, one line, of the error that ends loading."""
    with pytest.raises(UserError) as mistake:
        loaded(root, **changes)
    assert "\n" not in str(mistake.value)
    assert mistake.value.exit_code == 2
    return str(mistake.value)


# ── One image ───────────────────────────────────────────────────────────────────────────────────────────────────────


def bomb():
    """Returns a PNG of a few bytes whose header states 30,000 × 30,000 pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def broken_link(path):
    path.unlink()
    path.symlink_to("nowhere.jpg")


BAD_IMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:900]), "the image is damaged or truncated"),
    "text": (lambda path: path.write_text("a shopping list"), "not an image that can be decoded"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "huge": (lambda path: path.write_bytes(bomb()), "the image has more than 178,956,970 pixels, which is too large to decode"),
    "broken link": (broken_link, "can't be read (No such file or directory)"),
    "no permission": (lambda path: path.chmod(0), "can't be read (Permission denied)"),
}


@pytest.mark.parametrize("resident", ["on", "off"])
@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_stops_the_run_by_its_name_or_is_skipped_and_counted(root, name, resident):
    make, reason = BAD_IMAGES[name]
    source = loaded(root).train
    count, bad = len(source), source.name(5)

    def examples(places, reading):
        """Returns the number of examples that are read, and the names of those that are skipped."""
        batches = make_reader(source, make_mesh(1), reading)(places, 0, 4, [1] * 4)
        return sum(np.asarray(batch["mask"]).sum() for batch in batches), reading.skipped

    assert examples(Once(count), Reading(resident)) == (count, set())
    make(Path(bad))
    with as_ordinary_user() if name == "no permission" else contextlib.nullcontext():
        with pytest.raises(UserError) as mistake:
            examples(Once(count), Reading(resident))
        assert (str(mistake.value), mistake.value.exit_code) == (f"{bad}: {reason}", 2)
        assert examples(Once(count), Reading(resident, skip=True)) == (count - 1, {bad})  # evaluation leaves it out
        assert examples(Order(count, seed=0), Reading(resident, skip=True)) == (16, {bad})  # training takes the next


@pytest.mark.parametrize("content", [b"no image", jpeg(0)[:900]])
def test_set_of_which_nothing_can_be_read_says_why(root, content):
    for path in root.glob("*/*.jpg"):
        path.write_bytes(content)

    def prepare():
        make_preprocessing(DataSettings(), loaded(root).train)

    with pytest.raises(
        UserError, match=r"\.jpg: (not an image|the image is damaged).*; nor could any other image of this data set be read$"
    ):
        prepare()


# ── Folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["", "rose", "rose/deep"])
def test_folder_without_read_permission_is_named(root, where):
    (root / "rose" / "deep").mkdir()
    (root / where).chmod(0)
    with as_ordinary_user():
        said = refused(root)
    (root / where).chmod(0o755)
    assert said == f"{root / where}: can't be read (Permission denied)"


@pytest.mark.parametrize("name", ["folder", "csv", "arrays", "mnist", "cifar10"])
def test_path_below_a_closed_folder_is_not_called_missing(root, name):
    (root / "closed" / "in").mkdir(parents=True)
    (root / "closed").chmod(0)
    with as_ordinary_user():
        said = refused(root / "closed" / "in", name=name)
    (root / "closed").chmod(0o755)
    assert re.fullmatch(rf'data.root: "{root}/closed/in.*" can\'t be read \(Permission denied\)', said)


def test_names_that_differ_in_case_alone_are_two_files_and_two_classes(root):
    (root / "rose" / "A.jpg").write_bytes(jpeg(5))
    (root / "rose" / "a.JPG").write_bytes(jpeg(6))
    if not (root / "rose" / "a.jpg").exists():  # the file system is case-sensitive
        names = [source.name(i) for source in loaded(root).parts().values() for i in range(len(source))]
        assert {f"{root}/rose/A.jpg", f"{root}/rose/a.JPG"} < set(names)
        (root / "rose").rename(root / "Tulip")
        assert loaded(root).class_names == ("Tulip", "tulip")


def test_class_that_is_a_link_is_followed_but_not_to_nothing_nor_in_circles(root):
    (root / "rose").rename(root / ".flowers")
    (root / "rose").symlink_to(".flowers")
    assert sum(map(len, loaded(root).parts().values())) == 20
    (root / "tulip" / "loop").symlink_to("..")
    assert refused(root) == f"{root}/tulip/loop: a link to a folder that contains it"
    (root / "violet").symlink_to("nowhere")
    assert refused(root).startswith(f"{root}/violet: a broken link")


def test_class_with_too_few_images_for_a_split_is_named(root):
    (root / "violet").mkdir()
    (root / "violet" / "1.jpg").write_bytes(jpeg(1))
    said = 'data.test: the class "violet" has too few images to split, 1 of at least 2; add images, or remove the class'
    assert refused(root) == said
    (root / "violet" / "2.jpg").write_bytes(jpeg(2))
    assert refused(root, fold="1/5", validation=0.1).startswith('data.fold: the class "violet" has too few images to split, ')
    (root / "violet" / "2.jpg").unlink()
    for part in ("train", "val", "test"):  # nothing is split off
        (root / "parts" / part).mkdir(parents=True)
        for name in ("tulip", "violet"):
            (root / "parts" / part / name).symlink_to(root / name)
    assert len(loaded(root / "parts").train) == 11


def test_share_without_room_for_every_class_is_said_by_its_setting():
    said = refused("", name="digits", validation=0.005, image_size=0)
    assert said.startswith("data.validation: 0.005 of 1,437 images are 8, too few for one of each of 10 classes; set a larger")


@pytest.mark.parametrize("part", ["test", "val"])
def test_part_without_any_image_is_named(root, part):
    (root / "all").mkdir()
    (root / "all" / "train").symlink_to(root)
    (root / "all" / part).mkdir()
    (root / "all" / "train").unlink()
    (root / "all" / "train").mkdir()
    for name in ("rose", "tulip"):
        (root / name).rename(root / "all" / "train" / name)
    said = f"{root}/all/{part}: its class folders contain no images"
    assert refused(root / "all") == said
    (root / "all" / part / "rose").mkdir()
    assert refused(root / "all") == said


def test_two_folders_for_one_part_are_refused(root):
    for name in ("train", "valid", "val"):
        (root / name).mkdir()
    assert refused(root).startswith(
        f'{root}: by their names, "val" and "valid" are both the validation split; expected one folder; state '
    )


def test_images_without_folders_are_counted(root):
    for i, path in enumerate(sorted(root.glob("*/*.jpg"))):
        path.rename(root / f"{i}.jpg")
    (root / "rose").rmdir()
    assert refused(root).endswith(
        "contains 1 folder and 20 images outside of them; expected one folder per class, at least two"
    )

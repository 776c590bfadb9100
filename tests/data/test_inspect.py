import os

import cv2
import numpy as np
import pytest

from jaxcnn.data import ArraySource, Dataset, DataSettings, load
from jaxcnn.data.inspect import class_counts, inspect

RNG = np.random.default_rng(0)
A, B, C, D, E = (
    RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((20, 30), (50, 40), (33, 33), (33, 33), (64, 200))
)


def write(path, image, *settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, settings)


@pytest.fixture
def root(tmp_path):
    """A folder with A three times in train (as a copy of the file, and in another format) and once in validation; B in two
    classes, in train and in test; C twice in test; D and E once; and three unreadable files.
    """
    write(tmp_path / "train/cat/a.png", A)
    (tmp_path / "train/cat/copy.png").write_bytes((tmp_path / "train/cat/a.png").read_bytes())
    write(tmp_path / "train/cat/other.bmp", A)
    write(tmp_path / "train/cat/b.png", B)
    write(tmp_path / "train/dog/e.jpg", E)
    (tmp_path / "train/dog/text.jpg").write_text("no image")
    (tmp_path / "train/dog/empty.png").touch()
    write(tmp_path / "val/cat/a.png", A, cv2.IMWRITE_PNG_COMPRESSION, 9)
    write(tmp_path / "val/dog/d.webp", D[..., :1])
    write(tmp_path / "test/cat/c.png", C)
    write(tmp_path / "test/cat/c.bmp", C)
    write(tmp_path / "test/dog/b.bmp", B)
    os.symlink("nowhere.png", tmp_path / "test/dog/link.png")
    return tmp_path


@pytest.fixture
def found(root):
    return inspect(load(settings(root), seed=0), threads=3)


def settings(root, **changes):
    return DataSettings("folder", str(root), **changes)


def names(groups, root):
    return [[os.path.relpath(image.name, root) for image in group] for group in groups]


def test_identical_pixels_are_found_within_and_between_splits_in_any_format(found, root):
    assert names(found.overlapping, root) == [
        ["train/cat/a.png", "train/cat/copy.png", "train/cat/other.bmp", "val/cat/a.png"],
        ["train/cat/b.png", "test/dog/b.bmp"],
    ]
    assert names(found.within_a_part, root) == [["test/cat/c.bmp", "test/cat/c.png"]]
    assert found.overlaps() == {("train", "validation"): 1, ("train", "test"): 1}
    assert found.distinct() == {"train": 3, "validation": 2, "test": 2}
    assert [{image.labels for image in group} for group in found.identical] == [{(0,)}, {(0,), (1,)}, {(0,)}]


def test_unreadable_files_are_named_with_the_reason(found, root):
    assert {(os.path.relpath(image.name, root), image.part): image.problem for image in found.unreadable} == {
        ("train/dog/empty.png", "train"): "the file is empty",
        ("train/dog/text.jpg", "train"): "not an image that can be decoded",
        ("test/dog/link.png", "test"): "can't be read (No such file or directory)",
    }
    assert len(found.readable) == 10
    assert found.sizes == {"train": 7, "validation": 2, "test": 4}


def test_sizes_and_formats_are_those_of_the_files(found, root):
    seen = {os.path.relpath(image.name, root): (image.shape, image.stored) for image in found.readable}
    assert seen["train/cat/copy.png"] == ((20, 30, 3), "PNG, RGB")
    assert seen["train/cat/other.bmp"] == ((20, 30, 3), "BMP, RGB")
    assert seen["train/cat/b.png"] == ((50, 40, 3), "PNG, RGB")
    assert seen["train/dog/e.jpg"] == ((64, 200, 3), "JPEG, RGB")
    assert seen["val/dog/d.webp"][0] == (33, 33, 3)


def test_gray_files_are_identical_in_gray_and_in_rgb(tmp_path):
    gray = np.repeat(A[..., :1], 3, axis=2)
    for name, image in (("one", A), ("two", B)):
        for i in range(10):
            write(tmp_path / name / f"{i}.png", image + np.uint8(i))
    write(tmp_path / "one/color.png", gray)
    write(tmp_path / "one/gray.png", gray[..., 0])
    assert len(inspect(load(settings(tmp_path), seed=0)).identical) == 1  # the same gray image, stored as gray and as RGB


def test_sample_is_evenly_spaced_and_not_larger_than_requested(tmp_path):
    for name in ("one", "two"):
        for i in range(20):
            write(tmp_path / name / f"{i:02}.png", RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    found = inspect(load(settings(tmp_path, test=0.25, validation=0.0), seed=0), sample=12)
    assert found.sizes == {"train": 30, "test": 10}
    assert [sum(image.part == part for image in found.seen) for part in found.sizes] == [9, 3]
    assert [image.index for image in found.seen if image.part == "test"] == [0, 4, 9]


def test_images_in_memory_are_all_inspected_and_have_no_format():
    images = RNG.integers(0, 256, (6, 4, 5, 2), dtype=np.uint8)
    images[4] = images[1]
    train, test = (ArraySource(images[part], np.zeros(3, np.int32)) for part in (slice(3), slice(3, 6)))
    found = inspect(Dataset(train, None, test, ("a", "b")), sample=1)
    assert found.overlaps() == {("train", "test"): 1}
    assert [(image.part, image.index) for image in found.identical[0]] == [("train", 1), ("test", 1)]
    assert {(image.shape, image.stored) for image in found.seen} == {((4, 5, 2), "")}


def test_same_bytes_in_another_shape_are_another_image():
    flat = ArraySource(np.zeros((1, 2, 8, 1), np.uint8), np.zeros(1, np.int32))
    tall = ArraySource(np.zeros((1, 8, 2, 1), np.uint8), np.zeros(1, np.int32))
    assert not inspect(Dataset(flat, None, tall, ("a", "b"))).identical


def test_classes_are_counted_for_one_and_for_several_labels():
    np.testing.assert_array_equal(class_counts(np.array([0, 2, 2], np.int32), 4), [1, 0, 2, 0])
    np.testing.assert_array_equal(class_counts(np.array([[1, 0], [1, 1], [0, 0]], np.int32), 2), [2, 1])

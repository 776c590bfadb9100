"""A run is resumed only with the same examples, labels and classes, but their location may change."""

import shutil
import time

import numpy as np
import pytest
from common.begun_runs import begin
from common.small_runs import quiet, small_config
from PIL import Image

from jaxcnn import data, train
from jaxcnn.config import validate
from jaxcnn.errors import UserError
from jaxcnn.train.fingerprint import data_differences, fingerprint

PARTS = ("train", "val", "test")


@pytest.fixture
def pictures(tmp_path):
    """A folder with train, val and test, each with the classes a, b and c of four images."""
    for part in PARTS:
        for label, name in enumerate("abc"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng((label, number)).integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
    return tmp_path / "data"


def config(root, **changes):
    settings = {"data.name": "folder", "data.root": str(root), "batch_size": 4, "total": "9steps", "data.augment": ()}
    return small_config(**settings | changes)


def prints(root, **changes):
    return fingerprint(data.load(validate(config(root, **changes)).data, 0))


def test_folder_may_be_moved_copied_and_renamed(pictures, tmp_path, monkeypatch):
    before = prints(pictures)
    assert {part: of["examples"] for part, of in before.items()} == {"train": 12, "validation": 12, "test": 12}
    time.sleep(0.02)
    copy = shutil.copytree(pictures, tmp_path / "elsewhere" / "copy", copy_function=shutil.copy)  # with new modification times
    monkeypatch.chdir(tmp_path)
    for root in (copy, f"{pictures}/", "data", "elsewhere/../data"):
        assert prints(root) == before, root


def remove(root):
    (root / "train" / "b" / "3.png").unlink()


def rename(root):
    for part in PARTS:
        (root / part / "b").rename(root / part / "bird")


def reorder(root):
    for part in PARTS:
        (root / part / "a").rename(root / part / "d")


def add(root):
    for part in PARTS:
        shutil.copytree(root / part / "a", root / part / "aa")


def move_between_classes(root):
    (root / "test" / "a" / "0.png").rename(root / "test" / "b" / "00.png")


def swap_parts(root):
    (root / "train").rename(root / "other")
    (root / "val").rename(root / "train")
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "0000.png")
    (root / "other").rename(root / "val")


def other_pixels(root):
    for path in (root / "train").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path)) // 2).save(path)


def grey(root):
    for path in root.rglob("*.png"):
        Image.open(path).convert("L").save(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove, "train: 12 examples -> 11"),
        (rename, 'classes removed: "b"; classes added: "bird"'),
        (reorder, 'classes removed: "a"; classes added: "d"'),
        (add, 'classes added: "aa"; train: 12 examples -> 16; validation: 12 examples -> 16; test: 12 examples -> 16'),
        (move_between_classes, "(test: 12 examples, but different ones, or in a different order or with different labels)"),
        (swap_parts, "train: 12 examples, but different ones"),
        (other_pixels, "mean of the images: "),
        (grey, "image_shape of the images: [32, 32, 3] -> [32, 32, 1]"),
    ],
)
def test_run_on_changed_data_is_refused_with_what_differs(pictures, tmp_path, change, said):
    begin(tmp_path / "run", config(pictures))
    before = (tmp_path / "run" / "config.json").read_bytes()
    change(pictures)
    with pytest.raises(UserError, match="contains a run on different data") as refusal:
        train.run(config(pictures), tmp_path / "run", console=quiet()[0])
    assert said in str(refusal.value)
    assert "--config.model.pretrained=" in str(refusal.value)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["7"]


def test_order_of_classes_is_compared(pictures, tmp_path):
    npz = tmp_path / "few.npz"
    images, labels = np.zeros((30, 32, 32, 3), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None], np.arange(30) % 3
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(npz, **arrays, class_names=["a", "b", "c"])
    settings = {"data.name": "arrays"}
    begin(tmp_path / "run", config(npz, **settings))
    np.savez(npz, **arrays, class_names=["b", "a", "c"])
    with pytest.raises(UserError, match='classes in a different order: "a", "b", "c" -> "b", "a", "c"'):
        train.run(config(npz, **settings), tmp_path / "run", console=quiet()[0])


@pytest.mark.parametrize("change", ["label", "pixel", "count", "split", "none"])
def test_images_in_memory_are_compared_by_labels_pixels_and_split(tmp_path, change):
    rng = np.random.default_rng(0)
    arrays = {"train_images": rng.integers(0, 256, (50, 8, 8, 1), np.uint8), "train_labels": np.arange(50) % 5}
    arrays |= {"test_images": arrays["train_images"][:10].copy(), "test_labels": np.arange(10) % 5}
    np.savez(tmp_path / "one.npz", **arrays)
    if change == "label":
        arrays["train_labels"][[3, 4]] = arrays["train_labels"][[4, 3]]
    if change == "pixel":
        arrays["train_images"][7, 0, 0] ^= 1
    if change == "count":
        arrays |= {name: arrays[name][:45] for name in ("train_images", "train_labels")}
    np.savez(tmp_path / "other.npz", **arrays)
    settings = {"data.name": "arrays", "data.validation": 0.2}
    one = prints(tmp_path / "one.npz", **settings)
    other = prints(tmp_path / "other.npz", **settings | ({"data.validation": 0.1} if change == "split" else {}))
    assert (one == other) == (change == "none")
    assert one["test"] == other["test"]


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ((0.5, 0.25), [0.5, 0.25], False),
        ([0.5, 0.25], (0.5, 0.25 * (1 + 1e-12)), False),  # a different order of summation
        ([0.5, 0.25], [0.5, 0.251], True),
        ([0.5, 0.5], [0.5], True),
        ("area", "area", False),
        ("area", "bilinear", True),
        (None, [0.5], True),
        ({"low": 1}, {"low": 2}, True),
    ],
)
def test_preprocessing_of_any_form_is_compared(old, new, differs):
    metas = [{"class_names": ["a"], "data": {}, "preprocessing": {"it": value}} for value in (old, new)]
    assert bool(data_differences(*metas)) == differs


def test_random_crops_and_caches_are_not_compared(pictures, tmp_path):
    changes = {"data.random_crop": ((0.5, 1.0), (1.0, 1.0)), "data.cache": "disk", "data.cache_folder": str(tmp_path)}
    assert prints(pictures, **changes) == prints(pictures)

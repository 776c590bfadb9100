"""Cached images equal those of the files, whatever happens to the cache."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from jaxcnn.data import DataSettings, load, training_view
from jaxcnn.data.cache import Cached
from jaxcnn.data.decode import Center
from jaxcnn.data.sources import FileSource
from jaxcnn.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """Twelve photos of different sizes, in two classes."""
    originals = load_sample_images().images
    for index in range(12):
        path = tmp_path / "photos" / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(originals[index % 2][: 420 - 20 * index], (300 - 5 * index, 200)))
    return tmp_path / "photos"


def loaded(root, **changes):
    return load(DataSettings(**{"name": "folder", "root": str(root), "image_size": 64, "validation": 0.25, **changes}), seed=0)


def images(source):
    return np.stack([source.read(index) for index in range(len(source))])


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [64, (48, 80)])
def test_evaluation_reads_the_same_pixels_and_decodes_them_once(photos, cache, fit, size, monkeypatch):
    expected = loaded(photos, fit=fit, image_size=size)
    found = loaded(photos, fit=fit, image_size=size, cache=cache)
    first = {part: images(source) for part, source in found.parts().items()}
    monkeypatch.setattr(FileSource, "read", lambda *_: pytest.fail("decoded again"))
    again = {part: images(source) for part, source in found.parts().items()}
    monkeypatch.undo()
    for part, source in expected.parts().items():
        np.testing.assert_array_equal(first[part], images(source))
        np.testing.assert_array_equal(again[part], images(source))


def test_other_runs_and_processes_read_the_cache(photos, monkeypatch):
    expected = images(loaded(photos, cache="disk").train)
    later = loaded(photos, cache="disk").train  # the folder of the cache is not a class
    monkeypatch.setattr(FileSource, "read", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(images(later), expected)
    np.testing.assert_array_equal(images(pickle.loads(pickle.dumps(later))), expected)


def test_file_name_equals_that_of_earlier_versions(monkeypatch):
    monkeypatch.setattr(FileSource, "stamp", lambda self: "x")
    source = FileSource(np.array(["a.png"]), np.zeros(1, np.int32))
    kept = Cached(source, Center((32, 32), "crop", 0.875, "area"), 3, Path("folder"))
    assert kept._path == Path("folder/c36472aa9e0bab1d50759c52.pictures")


def test_truncated_or_damaged_records_are_decoded_again(photos):
    expected = images(loaded(photos, cache="disk").train)
    (file,) = (photos / ".jaxcnn-cache").iterdir()
    intact = file.read_bytes()
    one_bit = intact[:5000] + bytes([intact[5000] ^ 1]) + intact[5001:]
    for damaged in (intact[: len(intact) // 2], b"", one_bit, bytes(len(intact))):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(images(loaded(photos, cache="disk").train), expected)
    assert file.read_bytes() == intact


def test_changed_file_is_not_read_from_the_cache(photos):
    before = images(loaded(photos, cache="disk", random_crop=()).train)
    dataset = loaded(photos, cache="disk")
    path = dataset.train.name(0)
    cv2.imwrite(path, cv2.imread(path)[::-1])
    os.utime(path, (0, 0))
    after = images(loaded(photos, cache="disk").train)
    assert (before[0] != after[0]).any()
    np.testing.assert_array_equal(before[1:], after[1:])


def random_crop(source, position):
    return source.read(0, training_view(source, position))


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("size", [{}, {"image_size": (48, 80)}, {"image_size": (48, 80), "cache_side": (120, 140)}])
def test_cached_random_crops_are_the_same_ones_but_less_sharp(photos, cache, size):
    crop = {"random_crop": ((0.25, 1.0), (0.75, 4 / 3)), **size}
    exact = loaded(photos, **{name: value for name, value in crop.items() if name != "cache_side"}).train
    kept = loaded(photos, cache=cache, **crop).train
    differences = [np.abs(random_crop(exact, i).astype(float) - random_crop(kept, i)) for i in range(30)]
    others = [np.abs(random_crop(exact, i).astype(float) - random_crop(kept, i + 1)) for i in range(30)]
    assert np.mean(differences) < 7
    assert 3 * np.mean(differences) < np.mean(others)
    np.testing.assert_array_equal(random_crop(kept, 7), random_crop(loaded(photos, cache=cache, **crop).train, 7))


def test_unreadable_image_is_named_each_time(photos):
    source = loaded(photos, cache="memory").train
    with open(source.name(0), "w") as file:
        file.write("no image")
    for _ in range(2):
        with pytest.raises(UserError, match="jpg: not an image"):
            source.read(0)


def test_unsuitable_settings_are_refused(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("jaxcnn.data.cache.shutil.disk_usage", lambda _: SimpleNamespace(free=2**29))
    monkeypatch.setattr("jaxcnn.data.cache.os.sysconf", lambda name: 2**18 if "PAGES" in name else 2**12)
    for changes, message in (
        ({"cache": "memory", "workers": 2}, "data.workers"),
        ({"cache": "disk", "cache_folder": str(tmp_path / "file")}, "data.cache_folder"),
        ({"cache": "disk", "cache_side": 10_000}, "needs 3.4 GiB in .*, but 0.5 GiB are free"),
        ({"cache": "memory", "cache_side": 10_000}, "needs 3.4 GiB, but this machine has 1.0 GiB of memory"),
    ):
        with pytest.raises(UserError, match=message):
            loaded(photos, random_crop=((0.5, 1.0), (1.0, 1.0)), **changes)
    with pytest.raises(UserError, match=r"data\.cache: 'memory' has no effect with data.name=digits, only with folder, csv, "):
        loaded("", name="digits", cache="memory", image_size=0)

"""Images and class maps in folders and tables."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from common.map_scenes import CLASSES, COUNTS, LAYOUTS, NAMES, class_of, example, write

from jaxcnn import data
from jaxcnn.data import DataSettings, Once, Order, Reading, load, make_reader
from jaxcnn.data.external import external_split
from jaxcnn.data.inspect import inspect, pixel_counts
from jaxcnn.errors import UserError
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.fingerprint import fingerprint


def settings(root, **changes):
    return DataSettings(
        **{"name": "maps", "root": str(root), "fit": "pad", "image_size": (32, 48), "interpolation": "area"} | changes
    )


def message(function, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


# ── Layouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", ["", "_L"])
def test_images_and_maps_of_each_layout(tmp_path, layout, ending):
    dataset = load(settings(write(tmp_path, layout, ending)), seed=0)
    assert dataset.class_names == NAMES
    assert dataset.class_colors == ((0, 0, 255), (128, 128, 128), (255, 0, 0))
    for split, part in (("train", dataset.train), ("val", dataset.validation), ("test", dataset.test)):
        assert len(part) == COUNTS[split]
        for index in range(len(part)):
            image, values = example(split, index)
            np.testing.assert_array_equal(part.source.read(index), image)
            np.testing.assert_array_equal(part.source.read_map(index), class_of(values))
    images, maps = layout.format(split="train", name="x").split("|")
    assert f'train = "{Path(images).parent}" and "{Path(maps).parent}"' in dataset.notes[0]


def test_folders_without_splits_are_split(tmp_path):
    root = write(tmp_path, "images/{name}|masks/{name}", counts={"train": 20})
    dataset = load(settings(root, validation=0.2, test=0.3), seed=0)
    sizes = [len(source) for source in dataset.parts().values()]
    assert sum(sizes) == 20
    assert min(sizes) > 0
    names = [source.name(i) for source in dataset.parts().values() for i in range(len(source))]
    assert len(set(names)) == 20
    by_group = load(settings(root, validation=0.2, test=0.3, group=r"(\d)\.png"), seed=0)
    digits = [{source.name(i)[-5] for i in range(len(source))} for source in by_group.parts().values()]
    assert not set.intersection(*digits)


def test_table_of_images_and_maps(root):
    rows = ["path,map,split"]
    for split, count in COUNTS.items():
        rows += [f"{split}/sub/{i:02}.png,{split}_labels/sub/{i:02}.png,{split}" for i in range(count)]
    (root / "table.csv").write_text("\n".join(rows))
    table, folders = (load(dataclasses.replace(settings(root), name=name, root=str(at)), seed=0)
                      for name, at in (("csv", root / "table.csv"), ("maps", root)))  # fmt: skip
    assert table.class_names == folders.class_names
    for part, source in table.parts().items():
        for index in range(len(source)):
            np.testing.assert_array_equal(source.read_map(index), folders.parts()[part].read_map(index))
    assert fingerprint(table) == fingerprint(folders)


def test_class_file_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "names.txt"
    (root / "classes.csv").rename(root / "other.csv")
    elsewhere.write_text("a\nb\nvoid\nc\n")
    assert load(settings(root, classes=str(elsewhere)), seed=0).class_names == ("a", "b", "c")
    assert load(settings(root, classes="other.csv"), seed=0).class_names == NAMES
    assert message(load, settings(root), seed=0).startswith(
        f"data.classes: {root} has no classes.csv or classes.txt; data.name=maps"
    )
    assert message(load, settings(root, classes="x.csv"), seed=0).startswith("data.classes: no file 'x.csv'; data.name=maps")


def test_default_size_is_that_of_the_images_or_near_their_median(tmp_path):
    equal = write(tmp_path / "equal", size=(30, 44))
    assert load(settings(equal, image_size=0), seed=0).train.image_shape == (30, 44, 3)
    assert load(settings(write(tmp_path / "different"), image_size=0), seed=0).train.image_shape == (32, 32, 3)


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def batches(source, reading, order):
    reader = make_reader(source, make_mesh(0), reading)
    return [{name: np.asarray(array) for name, array in batch.items()} for batch in reader(order, 0, 8, [1, 1, 1])]


@pytest.mark.parametrize("crop", [(), ((0.3, 1.0), (0.8, 1.25))])
def test_batches_contain_the_map_of_each_image(root, crop):
    """The blue channel follows from the map, except at the edges of its blocks, where it is interpolated."""
    dataset = load(settings(root, random_crop=crop), seed=0)
    order = Order(12, seed=0)
    streamed = batches(dataset.train, Reading(resident="off", threads=2), order)
    if not crop:
        resident = batches(dataset.train, Reading(resident="on"), order)
        for one, other in zip(streamed, resident, strict=True):
            np.testing.assert_equal(one, other)
    for batch in streamed:
        compared = 0
        for pixels, classes in zip(batch["image"][0, ..., 2], batch["map"][0], strict=True):
            inside = cv2.dilate(pixels, np.ones((3, 3))) == cv2.erode(pixels, np.ones((3, 3)))
            inside &= pixels > 0  # the padding is 0 too
            np.testing.assert_array_equal(classes[inside], class_of(pixels[inside] // 50))
            compared += inside.sum()
        assert compared > 8 * 32 * 48 / 8


def test_padded_rows_and_pixels_are_void(root):
    source = load(settings(root, image_size=(32, 96)), seed=0).test
    batch = batches(source, Reading(resident="off"), Once(5))[0]
    assert batch["mask"].sum() == 5
    assert (batch["map"][~batch["mask"]] == 255).all()
    image, values = example("test", 0)
    scale = 32 / 30
    width = round(44 * scale)
    left = (96 - width) // 2
    assert (batch["map"][0, 0][:, : left - 1] == 255).all()
    assert (batch["map"][0, 0][:, left + width + 1 :] == 255).all()
    assert np.isin(batch["map"][0, 0][:, left + 1 : left + width - 1], [0, 1, 2, 255]).all()
    assert (batch["map"][0, 0] != 255).mean() < 44 * scale / 96
    assert image.shape[:2] == values.shape


def test_cached_images_have_the_same_maps(root, tmp_path):
    plain, cached = (load(settings(root, cache=cache), seed=0).test for cache in ("off", "memory"))
    for index in range(len(plain)):
        np.testing.assert_equal(data.read_example(plain, index), data.read_example(cached, index))


def test_unreadable_map_is_skipped_with_its_image_or_stops_the_run(root):
    (root / "train_labels/sub/03.png").write_bytes(b"")
    source = load(settings(root), seed=0).train
    assert "train_labels/sub/03.png: the map is damaged" in message(batches, source, Reading(resident="on"), Once(12))
    for resident in ("on", "off"):
        reading = Reading(resident=resident, skip=True)
        masks = [batch["mask"].ravel() for batch in batches(source, reading, Once(12))]
        assert np.flatnonzero(~np.concatenate(masks)[:12]).tolist() == [3]
        assert [Path(name).name for name in reading.skipped] == ["03.png"]
        indices = np.concatenate([batch["index"].ravel() for batch in batches(source, reading, Order(12, seed=0))])
        assert 3 not in indices
    assert [image.problem[:40] for image in inspect(load(settings(root), seed=0)).unreadable] != []


def test_pixel_counts(root):
    dataset = load(settings(root), seed=0)
    expected = np.array([np.bincount(class_of(example("train", i)[1]).ravel(), minlength=256)[:3] for i in range(12)])
    np.testing.assert_array_equal(pixel_counts(dataset.train.source, 3), expected)
    np.testing.assert_array_equal(pixel_counts(dataset.train.source, 3, 2), expected[[0, 11]])


def test_fingerprint_changes_with_a_map_and_with_the_class_file(root, tmp_path):
    before = fingerprint(load(settings(root), seed=0))
    moved = shutil.copytree(root, tmp_path / "moved")
    assert fingerprint(load(settings(moved), seed=0)) == before
    (moved / "train_labels/sub/03.png").write_bytes((root / "train_labels/sub/03.png").read_bytes() + b" ")
    assert fingerprint(load(settings(moved), seed=0))["train"] != before["train"]
    assert fingerprint(load(settings(moved), seed=0))["test"] == before["test"]
    (root / "classes.csv").write_text(CLASSES.replace("road", "sky", 1).replace("sky,#0000ff", "road,#0000ff"))
    assert fingerprint(load(settings(root), seed=0)) == before  # only the names differ, which are compared separately
    (root / "classes.csv").write_text(CLASSES.replace("road", "void"))
    assert fingerprint(load(settings(root), seed=0)) != before


@pytest.mark.parametrize("network", [NAMES, ("car", "tree", "road", "sky")])
def test_external_data_have_the_classes_of_the_network(root, network):
    source = external_split("maps", root, "test", network, 3, None)
    number = np.array([network.index(name) for name in NAMES] + [255])
    for index in range(5):
        expected = number[np.minimum(class_of(example("test", index)[1]), 3)]
        np.testing.assert_array_equal(source.read_map(index), expected)
    wrong = message(external_split, "maps", root, "test", ("sky", "roads"), 3, None)
    assert wrong.endswith('the network has no class "road" (did you mean "roads"?)')


# ── Bad input ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_map_of_another_size_than_its_image(root):
    path = root / "test_labels/sub/02.png"
    cv2.imwrite(str(path), np.zeros((10, 20), np.uint8))
    source = load(settings(root), seed=0).test
    image = root / "test/sub/02.png"
    assert message(source.read_map, 2) == f"{path}: the map is 20×10 pixels in size, but its image {image} is 42×32"


def test_map_with_a_value_outside_the_classes(root):
    path = root / "test_labels/sub/02.png"
    image, values = example("test", 2)
    values[3, 4] = 9
    cv2.imwrite(str(path), values)
    source = load(settings(root), seed=0).test
    expected = f"{path}: the value 9 in row 3, column 4 (from 0) is not in {root}/classes.csv, which has 0, 1, 2, 3, 255"
    assert message(source.read_map, 2) == expected
    assert image.shape[:2] == values.shape


def test_image_without_a_map(root):
    (root / "test_labels/sub/02.png").unlink()
    expected = f"{root}/test/sub/02.png: no map; expected {root}/test_labels/sub/02.png, as for other images"
    assert message(load, settings(root), seed=0) == expected


def test_map_without_an_image_is_reported(root):
    (root / "test/sub/02.png").unlink()
    dataset = load(settings(root), seed=0)
    assert len(dataset.test) == 4
    assert dataset.notes[1] == f'ignored 1 map without an image in {root}/test_labels: "sub/02"'


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: shutil.rmtree(root / "test_labels"),
            "expected one folder of maps for the split test, found 0; data.name=csv",
        ),
        (lambda root: shutil.rmtree(root / "test"), "expected one folder of images for the split test, found 0; data.name=csv"),
        (
            lambda root: shutil.copytree(root / "test_labels", root / "test_masks"),
            'expected one folder of maps for the split test, found 2 ("test_labels", "test_masks"); data.name=csv',
        ),
        (
            lambda root: [shutil.rmtree(root / name) for name in ("train", "train_labels")],
            "expected folders of the training set, got folders of: ",
        ),
        (
            lambda root: [shutil.rmtree(root / f"{name}_labels") for name in COUNTS],
            'no folder of maps, such as "masks" next to "images"; it contains "test", "train", "val"',
        ),
        (lambda root: shutil.copytree(root / "test", root / "images"), "expected one folder of maps, found 0"),
        (lambda root: (root / "test/sub/02.bmp").touch(), "another file has the same name apart from its suffix"),
        (
            lambda root: [shutil.rmtree(root / f"test{end}/sub") for end in ("", "_labels")],
            "test: contains no images",
        ),
    ],
)
def test_wrong_folders(root, change, expected):
    change(root)
    assert expected in message(load, settings(root), seed=0)


def test_two_maps_per_image_are_ambiguous(tmp_path):
    write(tmp_path, ending="_labelIds")
    for path in (tmp_path / "train_labels/sub").iterdir():
        shutil.copy(path, str(path).replace("labelIds", "instanceIds"))
    assert 'has several maps, with the endings "_instanceIds", "_labelIds"' in message(load, settings(tmp_path), seed=0)


def test_root_is_a_file(root):
    assert "is a file; data.name=maps expects a folder" in message(load, settings(root / "classes.csv"), seed=0)


def test_class_file_for_labels_is_refused(root):
    rows = ["path,label,map", *(f"train/sub/{i:02}.png,{i % 2},train_labels/sub/{i:02}.png" for i in range(12))]
    (root / "table.csv").write_text("\n".join(rows))
    table = dataclasses.replace(settings(root / "table.csv"), name="csv")
    assert load(table, seed=0).train.fields.keys() == {"label"}
    stated = dataclasses.replace(table, classes="classes.csv")
    assert message(load, stated, seed=0).startswith(f"data.classes: {root}/table.csv has labels")

"""Maps and boxes of images: read from an .npz, split with the data set, and put into its batches."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from common.broken_source import Broken

from jaxcnn.data import ArraySource, DataSettings, Once, Order, Reading, Resized, load, make_reader
from jaxcnn.data.external import external_split
from jaxcnn.data.fields import Field
from jaxcnn.data.replacement import Replacements
from jaxcnn.data.sources import Subset
from jaxcnn.errors import UserError
from jaxcnn.train.fingerprint import fingerprint

RNG = np.random.default_rng(0)
NAMES = ("sky", "road", "car")
COUNTS = {"train": 12, "val": 4, "test": 5}


def targets(count):
    """Returns maps and boxes for `count` images of 6×8 pixels."""
    maps = RNG.choice([0, 1, 2, 255], (count, 6, 8)).astype(np.uint8)
    low, size = RNG.integers(0, [4, 3], (count, 2, 2)), RNG.integers(1, 4, (count, 2, 2))
    boxes = np.concatenate([low, low + size], axis=2).astype(np.float64)
    classes = RNG.integers(-1, 3, (count, 2))
    return {"map": maps, "boxes": np.where(classes[..., None] < 0, 7.5, boxes), "classes": classes}


SCENES = {"class_names": np.array(NAMES)}
for part, count in COUNTS.items():
    SCENES[f"{part}_images"] = RNG.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    SCENES |= {f"{part}_{name}": array for name, array in targets(count).items()}
LABELS = {f"{part}_labels": np.arange(count) % 3 for part, count in COUNTS.items()}


@pytest.fixture
def scenes(tmp_path):
    """Writes arrays into an .npz and loads it as the source "arrays"."""

    def load_scenes(values, **changes):
        np.savez(tmp_path / "scenes.npz", **values)
        return load(DataSettings(name="arrays", root=str(tmp_path / "scenes.npz"), **changes), seed=0)

    return load_scenes


def without(*endings):
    return {name: array for name, array in SCENES.items() if not name.endswith(endings)}


# ── Read from an .npz ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labels", [{}, LABELS], ids=["without labels", "with labels"])
def test_maps_and_boxes_of_an_npz_are_the_columns_of_its_splits(scenes, labels):
    dataset = scenes(SCENES | labels)
    assert dataset.class_names == NAMES
    for part, source in zip(COUNTS, (dataset.train, dataset.validation, dataset.test), strict=True):
        assert len(source) == COUNTS[part]
        np.testing.assert_array_equal(source.column("map"), SCENES[f"{part}_map"])
        np.testing.assert_array_equal(source.column("classes"), SCENES[f"{part}_classes"])
        is_box = SCENES[f"{part}_classes"] >= 0
        np.testing.assert_array_equal(source.column("boxes")[is_box], SCENES[f"{part}_boxes"][is_box])
        assert not source.column("boxes")[~is_box].any()
        expected = {"map": Field("map", (6, 8), "uint8"), "boxes": Field("boxes", (2, 4), "float32")}
        assert source.fields == ({"label": Field("label", (), "int32")} if labels else {}) | expected
        if labels:
            np.testing.assert_array_equal(source.column("label"), labels[f"{part}_labels"])
        else:
            assert source.labels is None
            with pytest.raises(UserError, match=r'^data: a "label" per image is needed, but this data set has map, boxes$'):
                source.column("label")


@pytest.mark.parametrize(
    "names",
    [
        {"x_train": "train_images", "map_train": "train_map", "X_test": "test_images", "map_test": "test_map"},
        {"images": "train_images", "map": "train_map"},
    ],
)
def test_other_names_of_the_arrays(scenes, names):
    dataset = scenes({new: SCENES[old] for new, old in names.items()} | {"class_names": NAMES}, validation=0.25)
    maps = np.concatenate([source.column("map") for source in dataset.parts().values()])
    assert sorted(map(bytes, maps)) == sorted(
        map(bytes, np.concatenate([SCENES[old] for old in names.values() if "map" in old]))
    )


def changed(name, change):
    array = SCENES[name].copy()
    array = array.astype(np.float64) if name.endswith("boxes") else array
    change(array)
    return {name: array}


def put(index, value):
    def change(array):
        array[index] = value

    return change


ONE_BOX = {"train_classes": np.where(np.arange(24).reshape(12, 2) == 7, 1, -1)}  # row 1 of example 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (without("class_names"), "train_map needs an array class_names with the names of the classes 0, 1, …"),
        (
            {**SCENES, "train_map": SCENES["train_map"].astype(int)},
            r"train_map: expected uint8\(12, 6, 8\), .* got int64\(12, 6, 8\)",
        ),
        ({**SCENES, "train_map": SCENES["train_map"][:, :5]}, r"expected uint8\(12, 6, 8\), .* got uint8\(12, 5, 8\)"),
        ({**SCENES, "train_map": SCENES["train_map"][:9]}, r"expected uint8\(12, 6, 8\), .* got uint8\(9, 6, 8\)"),
        (
            {**SCENES, **changed("train_map", put((3, 2, 1), 3))},
            "train_map: example 3 has the value 3; expected 0 to 2, an index into class_names, or 255 for no class",
        ),
        ({**SCENES, "class_names": np.arange(256).astype(str)}, "a map can have at most 255 classes, but class_names has 256"),
        (
            {**SCENES, "train_boxes": SCENES["train_boxes"][..., :3]},
            r"train_boxes: expected .*\(12, 2, 4\), got .*\(12, 2, 3\)",
        ),
        ({**SCENES, "train_boxes": SCENES["train_boxes"] > 1}, r"train_boxes: expected numbers .*, got bool\(12, 2, 4\)"),
        (
            {**SCENES, "train_classes": SCENES["train_classes"] * 1.0},
            r"train_classes: expected integers .*, got float64\(12, 2\)",
        ),
        ({**SCENES, "train_classes": SCENES["train_classes"][0]}, r"expected integers of shape \(12, M\), got int64\(2,\)"),
        (
            {**SCENES, **changed("train_classes", put((4, 1), 3))},
            "train_classes: box 1 of example 4 has the class 3; expected 0 to 2, an index into class_names, or -1 for no box",
        ),
        ({**SCENES, **changed("train_classes", put((4, 0), -2))}, "box 0 of example 4 has the class -2; expected 0 to 2"),
        *(
            (
                {**SCENES, **ONE_BOX, **changed("train_boxes", put((3, 1), box))},
                f"train_boxes: box 1 of example 3, .* has {what}",
            )
            for box, what in (
                ([1, 1, 8.5, 3], "edges outside its image, which is 8 pixels wide and 6 high"),
                ([1, 1, 3, 6.5], "edges outside its image"),
                ([-1, 1, 3, 3], "edges outside its image"),
                ([1, -1, 3, 3], "edges outside its image"),
                ([3, 1, 1, 3], "no area; expected x0, y0, x1, y1 with x0 < x1 and y0 < y1"),
                ([1, 3, 3, 3], "no area"),
                ([1, 3, np.nan, 4], "coordinates that are not finite"),
            )
        ),
        (without("train_classes"), "no array 'train_classes' with the class of each box in train_boxes"),
        (without("val_boxes"), "the split 'train' has boxes, but the split 'validation' does not"),
        (without("train_map"), "the split 'validation' has map, but the split 'train' does not"),
        ({**SCENES, "test_labels": LABELS["test_labels"]}, "the split 'test' has labels, but the split 'train' does not"),
        (without("train_images"), "no array 'train_images' .*; the file contains"),
        ({"train_images": SCENES["train_images"], "train_classes": SCENES["train_classes"]}, "no array 'train_labels'"),
        ({"images": SCENES["train_images"], "classes": SCENES["train_classes"]}, "no array 'labels'"),
        (
            {**SCENES, "map": SCENES["train_map"]},
            "'train_map' and 'map' are two arrays for the map of the split train; keep one",
        ),
    ],
)
def test_targets_that_do_not_fit_are_refused_by_name(scenes, values, message):
    with pytest.raises(UserError, match=message) as mistake:
        scenes(values)
    assert "\n" not in str(mistake.value)


def test_array_called_classes_without_boxes_is_not_a_field(scenes):
    plain = without("map", "boxes", "classes") | LABELS
    assert scenes(plain | {"classes": np.array(["anything"])}).train.fields.keys() == {"label"}


def test_external_maps_and_boxes_are_renumbered_by_the_names_of_their_classes(tmp_path):
    path, classes = tmp_path / "scenes.npz", ("car", "tree", "sky", "road")
    np.savez(path, **SCENES)
    source = external_split("arrays", path, "test", classes, 3, None)
    for name, empty in (("map", 255), ("classes", -1)):
        found, given = source.column(name), SCENES[f"test_{name}"]
        assert [[classes[k] for k in found[given == old]] == [NAMES[old]] * (given == old).sum() for old in range(3)] == [
            True
        ] * 3
        np.testing.assert_array_equal(found == empty, given == empty)
    with pytest.raises(UserError, match='the network has no class "sky"'):
        external_split("arrays", path, "test", ("car", "road"), 3, None)
    with pytest.raises(UserError, match='a "label" per image is needed'):
        external_split("arrays", path, "test", classes, 3, False)


# ── Splits, order and replacement without labels ─────────────────────────────────────────────────────────────────────


def test_data_without_labels_are_split_without_stratification(scenes):
    plain = {name.removeprefix("train_"): array for name, array in SCENES.items() if name.startswith(("train", "class_names"))}
    for changes, sizes in (({"test": 0.25, "validation": 0.34}, (5, 4, 3)), ({"test": 0.25, "fold": "2/3"}, (6, 3, 3))):
        dataset = scenes(plain, **changes)
        assert tuple(len(source) for source in dataset.parts().values()) == sizes
        for source in dataset.parts().values():
            for index in range(len(source)):
                (original,) = np.flatnonzero((SCENES["train_images"] == source.read(index)).all(axis=(1, 2, 3)))
                for name, column in source.columns.items():
                    np.testing.assert_array_equal(source.rows(np.array([index]))[name][0], column[index])
                np.testing.assert_array_equal(source.column("map")[index], SCENES["train_map"][original])


def test_balanced_order_needs_labels(scenes):
    with pytest.raises(UserError, match=r"^data.balanced: arrays has no labels"):
        scenes(SCENES, balanced=True)


class BrokenWithMaps(Broken):
    """Eight images without labels. Each has a map of one pixel, whose value is the index of the image."""

    @property
    def columns(self):
        return {"map": np.arange(8, dtype=np.uint8).reshape(8, 1, 1)}


@pytest.mark.parametrize("resident", ["on", "off"])
def test_without_labels_any_image_replaces_an_unreadable_one(resident):
    source, order = BrokenWithMaps(None, frozenset({2, 5})), Order(8, 0)
    found = flat(batches(source, order, 4, [2] * 50, resident=resident, skip=True))
    ordered = order[np.arange(400)]
    np.testing.assert_array_equal(found["map"].ravel(), found["index"])
    np.testing.assert_array_equal(found["image"].ravel(), found["index"])
    replaced = np.isin(ordered, [2, 5])
    np.testing.assert_array_equal(found["index"][~replaced], ordered[~replaced])
    assert set(found["index"][replaced]) == {0, 1, 3, 4, 6, 7}
    none = BrokenWithMaps(None, frozenset(range(8)))
    with pytest.raises(UserError, match=r"^image 0: broken; nor could any other image of this data set be read$"):
        Replacements(none).check(np.zeros(8, bool))


# ── Batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def batches(source, order, size, counts, most=0, *, resident, devices=1, skip=False):
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(axis,), devices=jax.devices()[:devices])
    read = make_reader(source, mesh, Reading(resident, 2, skip=skip))
    return [jax.tree.map(np.asarray, batch) for batch in read(order, 0, size, counts, most)]


def flat(found):
    return {name: np.concatenate([batch[name].reshape(-1, *batch[name].shape[2:]) for batch in found]) for name in found[0]}


def scene_source(labels=None):
    made = targets(21)
    made |= {"boxes": made["boxes"].astype(np.float32), "classes": made["classes"].astype(np.int32)}
    return ArraySource(RNG.integers(0, 256, (21, 6, 8, 3), dtype=np.uint8), labels, targets=made)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("resident", ["on", "off"])
@pytest.mark.parametrize("subset", [False, True])
def test_batches_have_an_array_per_column_and_padding_has_neither_class_nor_box(subset, resident, devices):
    scene_images = scene_source(np.arange(21, dtype=np.int32))
    chosen = np.array([3, 1, 20, 7, 8, 9]) if subset else np.arange(21)
    source = Subset(scene_images, chosen) if subset else scene_images
    found = batches(source, Once(len(source)), 8, [1, 2], 3, resident=resident, devices=devices)
    types = {"image": "uint8", "label": "int32", "mask": "bool", "index": "int32", "epoch": "int32"}
    types |= {"map": "uint8", "boxes": "float32", "classes": "int32"}
    assert {name: array.dtype for name, array in found[0].items()} == types
    shapes = {"map": (3, 8, 6, 8), "boxes": (3, 8, 2, 4), "classes": (3, 8, 2), "label": (3, 8), "image": (3, 8, 6, 8, 3)}
    assert {name: found[0][name].shape for name in shapes} == shapes
    rows = flat(found)
    mask = rows["mask"]
    np.testing.assert_array_equal(rows["label"][mask], chosen)
    for name, empty in (("map", 255), ("boxes", 0), ("classes", -1)):
        np.testing.assert_array_equal(rows[name][mask], scene_images.column(name)[chosen])
        assert (rows[name][~mask] == empty).all()


def test_resized_images_have_labels_but_maps_and_boxes_are_refused():
    labels = np.arange(21, dtype=np.int32)
    scene_images = scene_source(labels)
    resized = Resized(Subset(dataclasses.replace(scene_images, targets={}), np.array([4, 2])), (6, 8, 3))
    assert len(resized) == 2
    assert resized.column("label").tolist() == [4, 2]
    assert resized.rows(np.array([1]))["label"].tolist() == [2]
    with pytest.raises(UserError, match=r"^data: boxes cannot be resized with the images"):
        Resized(Subset(scene_images, np.array([4, 2])), (6, 8, 3))


# ── Fingerprint ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fingerprint_of_labels_and_pixels_equals_that_of_earlier_versions(scenes):
    plain = without("map", "boxes", "classes") | LABELS
    digest = hashlib.sha256(LABELS["train_labels"].astype("<i4").tobytes())
    digest.update(np.arange(12, dtype="<i8").tobytes() + plain["train_images"].tobytes())
    assert fingerprint(scenes(plain))["train"] == {"examples": 12, "sha256": digest.hexdigest()}


@pytest.mark.parametrize("name", ["train_map", "train_boxes", "train_classes"])
@pytest.mark.parametrize("labels", [{}, LABELS], ids=["without labels", "with labels"])
def test_fingerprint_changes_with_a_map_a_box_or_the_class_of_a_box(scenes, name, labels):
    values = SCENES | labels
    values["train_classes"] = np.maximum(SCENES["train_classes"], 0)
    values["train_boxes"] = np.tile([1.0, 2.0, 3.0, 4.0], (12, 2, 1))
    before = fingerprint(scenes(values))
    array = values[name].copy()
    first = (7, *[0] * (array.ndim - 1))
    array[first] = 0 if array[first] else 1
    after = fingerprint(scenes(values | {name: array}))
    assert after["train"] != before["train"]
    assert after["test"] == before["test"]

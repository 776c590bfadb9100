"""The Hugging Face source, on tiny data sets that are saved here, without the hub."""

import dataclasses
import pickle
import shutil
import sys

import cv2
import datasets
import numpy as np
import pytest

from jaxcnn.data import DataSettings, load
from jaxcnn.data.choices import Ranges
from jaxcnn.data.decode import Center, look
from jaxcnn.data.huggingface import HuggingFaceSource, from_hugging_face
from jaxcnn.data.inspect import inspect
from jaxcnn.errors import UserError

NAMES = ["cat", "dog", "eel"]
ONE, SEVERAL = datasets.ClassLabel(names=NAMES), datasets.Sequence(datasets.ClassLabel(names=NAMES))
SIZES = {"train": 30, "test": 9, "val": 6}
datasets.disable_progress_bars()


def original(split, index):
    """Returns an image (H, W, 3) uint8, whose height depends on `index`."""
    return np.random.default_rng((list(SIZES).index(split), index)).integers(0, 256, (33 + index, 40, 3), np.uint8)


def encoded(image, kind=".png"):
    return cv2.imencode(kind, image[..., ::-1])[1].tobytes()


def table(split, label=ONE, classes=lambda index: index % 3, kind=".png", **more):
    rows = range(SIZES[split])
    columns = {"photo": [{"bytes": encoded(original(split, i), kind), "path": None} for i in rows]}
    features = {"photo": datasets.Image(), "id": datasets.Value("string")}
    columns["id"] = [f"{split}{i}" for i in rows]
    if label is not None:
        columns["kind"], features["kind"] = [classes(i) for i in rows], label
    for name, feature in more.items():
        columns[name], features[name] = columns["photo" if isinstance(feature, datasets.Image) else "kind"], feature
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def saved(path, **how):
    """Saves the three splits. Returns their folder."""
    datasets.DatasetDict({split: table(split, **how) for split in SIZES}).save_to_disk(path / "set")
    return path / "set"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("huggingface"))


def read(root, features=(), **splits):
    return from_hugging_face("some/set", str(root), splits, features)


def settings(root, **changes):
    return DataSettings(**{"name": "huggingface:some/set", "root": str(root), **changes})


def message(function, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_and_labels_are_the_originals(root):
    dataset = read(root)
    assert dataset.class_names == tuple(NAMES)
    for part, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        source = dataset.parts()[part]
        np.testing.assert_array_equal(source.labels, np.arange(SIZES[split]) % 3)
        for index in range(SIZES[split]):
            np.testing.assert_array_equal(source.read(index), original(split, index))
    view = Center((16, 16))
    expected = look(original("train", 7), view(40, 40))
    np.testing.assert_array_equal(dataset.train.read(7, view), expected)


def test_load_brings_images_to_one_size(root):
    dataset = load(settings(root, channels=1, image_size=24), seed=0)
    view = Center((24, 24), "crop", 0.875)
    gray = cv2.imdecode(np.frombuffer(encoded(original("test", 3)), np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(dataset.test.read(3)[..., 0], look(gray, view(*gray.shape)))
    assert load(settings(root), seed=0).train.image_shape == (32, 32, 3)


def test_jpeg_is_decoded_as_opencv_does(tmp_path):
    source = read(saved(tmp_path, kind=".jpg")).train
    expected = cv2.imdecode(np.frombuffer(encoded(original("train", 5), ".jpg"), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(source.read(5), expected)


def test_several_labels_become_zeros_and_ones(tmp_path):
    root = saved(tmp_path, label=SEVERAL, classes=lambda i: [k for k in range(3) if i & 1 << k])
    labels = load(settings(root), seed=0).test.labels
    np.testing.assert_array_equal(labels, [[i >> k & 1 for k in range(3)] for i in range(SIZES["test"])])


def test_a_single_set_is_cut_into_parts(tmp_path):
    table("train").save_to_disk(tmp_path / "one")
    dataset = load(settings(tmp_path / "one", test=0.2, validation=0.25), seed=0)
    assert {name: len(source) for name, source in dataset.parts().items()} == {"train": 18, "validation": 6, "test": 6}


def test_splits_take_the_slices_that_they_name(root):
    dataset = read(root, train="train[:50%]+val[2:4]", validation="train[-10:]")
    assert {name: len(source) for name, source in dataset.parts().items()} == {"train": 17, "validation": 10, "test": 9}
    np.testing.assert_array_equal(dataset.train.read(16), original("val", 3))
    np.testing.assert_array_equal(dataset.train.labels[15:], [2, 0])
    np.testing.assert_array_equal(dataset.validation.read(9), original("train", 29))
    assert dataset.train.name(16) == f"{root}, val[3]"


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": "trian"}, "data.*_split: 'trian' (did you mean \"train\"?)"),
        ({"train": "train[:90"}, "'train[:90'"),
        ({"test": "test[20:]"}, "'test[20:]' contains no examples"),
        ({"test": "train"}, "has no train split; set one of its splits: test, train, val"),
        ({"train": "train[:20]", "validation": "train[19:]"}, "data.validation_split: 'train[19:]' shares examples"),
    ],
)
def test_wrong_splits_are_reported_in_one_line(root, splits, says):
    assert says in message(read, root, **splits)


def test_a_test_split_with_hidden_labels_or_none_is_replaced_by_validation(tmp_path):
    for hidden in (table("test", classes=lambda _: -1), table("test", classes=lambda _: None)):
        datasets.DatasetDict(train=table("train"), valid=table("val"), test=hidden).save_to_disk(tmp_path)
        dataset = read(tmp_path)
        assert (dataset.validation, len(dataset.test)) == (None, SIZES["val"])


def test_splits_with_other_classes_or_without_labels_are_refused(tmp_path):
    for other in (table("test", label=None), table("test", label=datasets.ClassLabel(names=NAMES[::-1]))):
        datasets.DatasetDict(train=table("train"), test=other).save_to_disk(tmp_path)
        assert "the features 'photo' and 'kind' of 'test' differ from those of 'train'" in message(read, tmp_path)


def test_features_are_chosen_or_found_or_the_choice_is_reported(tmp_path):
    root = saved(tmp_path, coarse=datasets.ClassLabel(names=["a", "b", "c"]), mask=datasets.Image())
    assert "several image features: mask, photo" in message(read, root)
    assert read(root, ("photo", "coarse")).class_names == ("a", "b", "c")
    assert "no class label feature 'kid' (did you mean \"kind\"?)" in message(read, root, ("photo", "kid"))
    unlabeled = saved(tmp_path / "unlabelled", label=None)
    assert "has no class label feature, so it is not a classification data set; its features are id, photo" in message(
        read, unlabeled
    )


def test_a_source_sent_to_another_process_reads_the_same(root):
    source = read(root, train="train[10:25]").train
    packed = pickle.dumps(source)
    assert len(packed) < 5000
    unpickled = pickle.loads(packed)
    for index in range(15):
        np.testing.assert_array_equal(unpickled.read(index), original("train", 10 + index))


def test_images_may_be_files_and_missing_ones_are_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(original("train", 0)))
    columns = {"image": [str(path), str(tmp_path / "b.png"), None], "label": [0, 1, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES[:2])})
    paths = datasets.Dataset.from_dict(columns, features).cast_column("image", datasets.Image(decode=False))
    assert paths[0]["image"] == {"bytes": None, "path": str(path)}
    source = HuggingFaceSource("set", paths.select_columns(["image"]), Ranges((("train", 0, 3),)), np.array([0, 1, 1]))
    np.testing.assert_array_equal(source.read(0), original("train", 0))
    assert message(source.encoded, 1).startswith(f"{tmp_path / 'b.png'}: can't be read")
    assert message(source.encoded, 2) == "set, train[2]: the example has no image"


def test_pages_about_data_see_the_images_as_they_are_stored(root):
    found = inspect(load(settings(root), seed=0))
    assert len(found.readable) == sum(SIZES.values())
    assert {image.stored for image in found.seen} == {"PNG, RGB"}


def test_what_cannot_be_loaded_is_reported_in_one_line(root, tmp_path, monkeypatch):
    assert "no file or folder" in message(read, tmp_path / "nowhere")
    assert "expected a folder written by save_to_disk" in message(read, tmp_path)
    shutil.copytree(root, tmp_path / "damaged")
    (file,) = (tmp_path / "damaged" / "train").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:1000])
    assert "can't be loaded" in message(read, tmp_path / "damaged")
    assert "expected huggingface:OWNER/NAME" in message(from_hugging_face, "cifar10", "", {})
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "data.name: huggingface:some/set: can't be loaded" in message(load, settings(""), seed=0)


def test_without_the_library_the_message_says_how_to_install_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'jaxcnn[huggingface]'" in message(load, settings(root), seed=0)


def test_settings_of_other_sources_are_refused(root):
    assert "data.group" in message(load, settings(root, group="x"), seed=0)
    assert "huggingface:OWNER/NAME" in message(load, settings(root, name="hugingface"), seed=0)


# ── Class maps ──────────────────────────────────────────────────────────────────────────────────────────────────────


def map_of(split, index):
    return np.random.default_rng((5, list(SIZES).index(split), index)).choice([0, 1, 255], (33 + index, 40)).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Saves images with maps in the column "annotation", and a class file beside them."""
    folder = tmp_path_factory.mktemp("scenes")
    features = datasets.Features({"photo": datasets.Image(), "annotation": datasets.Image()})

    def split_table(split):
        rows = [(original(split, i)[..., ::-1], map_of(split, i)) for i in range(SIZES[split])]
        columns = zip(*rows, strict=True)
        files = [[{"bytes": cv2.imencode(".png", x)[1].tobytes(), "path": None} for x in column] for column in columns]
        return datasets.Dataset.from_dict(dict(zip(features, files, strict=True)), features)

    datasets.DatasetDict({split: split_table(split) for split in SIZES}).save_to_disk(folder / "set")
    (folder / "classes.txt").write_text("land\nwater\n")
    return folder


@pytest.mark.parametrize("features", [(), ("photo", "annotation")])
def test_maps_are_found_by_the_name_of_their_feature_or_named(scenes, features):
    dataset = from_hugging_face("some/set", str(scenes / "set"), {}, features, str(scenes / "classes.txt"))
    assert dataset.class_names == ("land", "water")
    for part, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        source = dataset.parts()[part]
        assert len(source) == SIZES[split]
        for index in range(SIZES[split]):
            np.testing.assert_array_equal(source.read(index), original(split, index))
            np.testing.assert_array_equal(source.read_map(index), map_of(split, index))
    unpickled = pickle.loads(pickle.dumps(dataset.test))
    np.testing.assert_array_equal(unpickled.read_map(4), map_of("test", 4))


def test_maps_without_a_class_file_or_with_a_missing_map(scenes):
    wrong = message(from_hugging_face, "some/set", str(scenes / "set"), {})
    assert wrong.startswith("data.classes: it is not set; ")
    assert wrong.endswith("the feature 'annotation' needs a class file, a table with the columns name, value and color")
    source = from_hugging_face("some/set", str(scenes / "set"), {}, (), str(scenes / "classes.txt")).test
    empty = dataclasses.replace(source, maps=source.maps.map(lambda row: {"annotation": None}))
    assert message(empty.read_map, 0) == f"{source.name(0)}: the example has no map"

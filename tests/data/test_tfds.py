"""The TFDS source, on tiny data sets that are prepared here without TensorFlow."""

import dataclasses
import json
import pickle
import re
import sys

import numpy as np
import pytest
from common.tiny_tfds import NAMES, SIZES, damaged, message, original, original_map, read

from jaxcnn.data import DataSettings, load
from jaxcnn.data.decode import Center, look
from jaxcnn.data.tfds import prepared


@pytest.fixture
def root(tiny_tfds):
    """A data_dir in which every config is prepared."""
    return tiny_tfds


@pytest.mark.parametrize(
    ("config", "pixel"), [("plain", np.s_[0, 0, :]), ("arrays", np.s_[0, :2, 0]), ("several", np.s_[0, :2, 0])]
)
def test_images_and_labels_are_the_originals(root, config, pixel):
    dataset = read(root, config)
    assert {name: len(source) for name, source in dataset.parts().items()} == SIZES
    for split, source in dataset.parts().items():
        originals = [original(config, split, index) for index in range(SIZES[split])]
        found = set()
        for position in range(len(source)):
            image, labels = source.read(position), source.labels[position]
            index = next(i for i, (o, _) in enumerate(originals) if np.array_equal(o.reshape(image.shape), image))
            label = originals[index][1]
            expected = [int(k in label) for k in range(3)] if config == "several" else label
            np.testing.assert_array_equal(labels, expected)
            assert image.shape == source.image_shape
            assert image.dtype == np.uint8
            found.add(index)
        assert found == set(range(SIZES[split]))
    assert dataset.class_names == (("0", "1", "2") if config == "arrays" else tuple(NAMES))
    assert "tensorflow" not in sys.modules


def test_images_of_varying_size_are_seen_as_a_view_shows_them(root):
    source = read(root, "sizes").train
    assert source.image_shape is None
    for position in (0, 17):
        image, view = source.read(position), Center((16, 16))
        expected = original("sizes", "train", int(image[0, 0, 0]))[0]
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(source.read(position, view), look(expected, view(*expected.shape[:2])))


def test_load_brings_images_of_varying_size_to_one(root):
    config = DataSettings("tfds:jaxcnn_tiny/sizes", str(root))
    dataset = load(config, seed=0)
    assert dataset.train.image_shape == dataset.train.read(0).shape == (32, 32, 3)
    assert load(dataclasses.replace(config, channels=1, image_size=(16, 24)), seed=0).test.read(3).shape == (16, 24, 1)


def test_a_split_without_labels_is_refused_where_it_is_asked_for(root):
    settings = DataSettings("tfds:jaxcnn_tiny/unlabelled", str(root), test_split="test")
    assert "test: example 0 has the label -1, outside 0 to 2, for 3 classes" in message(load, settings, seed=0)


@pytest.mark.parametrize(("config", "channels"), [("arrays", 3), ("several", 3), ("plain", 1)])
def test_channels_are_those_asked_for(root, config, channels):
    settings = DataSettings(f"tfds:jaxcnn_tiny/{config}", str(root), channels=channels)
    source, stored = load(settings, seed=0).train, read(root, config).train
    assert source.image_shape == source.read(5).shape == (8, 10, channels)
    expected = np.repeat(stored.read(5), 3, axis=2) if channels == 3 else stored.read(5) @ np.array([[0.299], [0.587], [0.114]])
    assert np.abs(source.read(5) - expected).max() < 1.01  # the decoder truncates


def test_a_source_sent_to_another_process_reads_the_same(root):
    source = read(root, "plain", train="train[10:25]").train
    unpickled = pickle.loads(pickle.dumps(source))
    for index in range(15):
        np.testing.assert_array_equal(source.read(index), unpickled.read(index))
    assert len(pickle.dumps(source)) < 5000


def test_splits_take_the_slices_that_they_name(root):
    train = read(root, "plain").train
    dataset = read(root, "plain", train="train[:50%]+validation[:4]", validation="train[30:]", test="test[5:]")
    assert {name: len(source) for name, source in dataset.parts().items()} == {"train": 24, "validation": 10, "test": 7}
    for index in range(20):
        np.testing.assert_array_equal(dataset.train.read(index), train.read(index))
    assert dataset.validation.name(0) == train.name(30)
    np.testing.assert_array_equal(dataset.validation.read(9), train.read(39))
    assert (dataset.train.read(20)[0, 0, 1], dataset.train.read(23)[0, 1, 1]) == (2, 2)


def test_a_test_split_without_labels_is_replaced_by_validation(root):
    dataset = read(root, "unlabelled")
    assert dataset.validation is None
    assert len(dataset.test) == SIZES["validation"]


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": "train[:90"}, "Unrecognized split format: 'train[:90'"),
        ({"train": "trian"}, 'did you mean "train"'),
        ({"train": "train[500:]"}, "incompatible with 40 examples"),
        ({"train": "train[30:20]"}, "'train[30:20]' contains no examples"),
        (
            {"train": "train", "test": "train[90%:]"},
            "data.test_split: 'train[90%:]' shares examples with 'train', the train split",
        ),
        ({"test": "train"}, "has no train split; set one of its splits: test, train, validation"),
        ({"test": "all"}, "has no train split; set one of its splits: test, train, validation"),
    ],
)
def test_wrong_splits_are_reported_in_one_line(root, splits, says):
    assert says in message(read, root, "plain", **splits)


def test_features_are_chosen_or_found_or_the_choice_is_reported(root):
    assert "several class label features: coarse, label" in message(read, root, "coarse")
    assert read(root, "coarse", ("image", "coarse")).class_names == ("0", "1")
    assert "no class label feature 'labl' (did you mean \"label\"?)" in message(read, root, "coarse", ("image", "labl"))
    assert "no image feature" in message(read, root, "text")
    assert "is not a pair" in message(read, root, "plain", ("image",))


def test_a_set_that_is_not_prepared_is_named_with_the_command_that_prepares_it(root, tmp_path):
    said = message(prepared, "mnist", str(root), {})
    assert f"experiments/prepare.py --dataset=mnist --data_dir={root}" in said
    assert 'did you mean "jaxcnn_tiny"' in message(prepared, "jaxcn_tiny", str(root), {})
    assert "its folder contains" in message(prepared, "jaxcnn_tiny/plane", str(root), {})
    assert "expected tfds:NAME" in message(prepared, "a/b/c", str(root), {})
    (tmp_path / "mnist" / "incomplete.ABC_3.0.1").mkdir(parents=True)
    assert "its preparation was interrupted" in message(prepared, "mnist", str(tmp_path), {})


@pytest.mark.parametrize("size", [0, 1000, 65536, 100_001, -1])
def test_a_truncated_file_is_named(root, tmp_path, size):
    data_dir, folder = damaged(root, tmp_path)
    (file,) = folder.glob("*-train.array_record*")
    file.write_bytes(file.read_bytes()[:size])
    assert re.match(f"{re.escape(str(file))}, record 0: damaged", message(read, data_dir, "plain"))


def test_a_changed_byte_is_found_and_its_record_named(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    train = read(root, "plain").train
    (file,) = folder.glob("*-train.array_record*")
    content = bytearray(file.read_bytes())
    content[content.index(train.encoded(7)) + 50] ^= 1
    file.write_bytes(content)
    assert re.match(f"{re.escape(str(file))}, record 7: damaged", message(read, data_dir, "plain"))


def test_a_missing_or_incomplete_file_is_named(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    (folder / "dataset_info.json").write_text((folder / "dataset_info.json").read_text()[:100])
    assert "damaged or incomplete" in message(read, data_dir, "plain")
    (folder / "dataset_info.json").unlink()
    assert "damaged or incomplete" in message(read, data_dir, "plain")
    (folder / "features.json").unlink()
    assert "to prepare it" in message(read, data_dir, "plain")
    data_dir, folder = damaged(root, tmp_path, "several")
    (file,) = folder.glob("*-test.array_record*")
    file.unlink()
    assert str(file) in message(read, data_dir, "several")


def test_a_data_folder_that_cannot_be_read_is_named(root, monkeypatch):
    def closed(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("jaxcnn.data.tfds.os.listdir", closed)
    assert message(read, root, "plain") == f"{root}: can't be read (Permission denied)"


def test_a_set_prepared_as_tfrecord_is_refused(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    assert "expected the format array_record, found tfrecord" in message(read, data_dir, "plain")


def test_settings_of_tfds_are_refused_elsewhere_and_groups_here(root):
    config = DataSettings(train_split="train[:10%]")
    assert "data.train_split: 'train[:10%]' has no effect with data.name=digits, only with" in message(load, config, seed=0)
    config = DataSettings("tfds:jaxcnn_tiny/plain", str(root), group="x")
    assert "data.group: 'x' has no effect with data.name=tfds:jaxcnn_tiny/plain" in message(load, config, seed=0)


def test_maps_have_the_class_names_of_their_feature(root):
    dataset = read(root, "maps", ("image", "mask"))
    assert dataset.class_names == tuple(NAMES)
    for split, source in dataset.parts().items():
        assert len(source) == SIZES[split]
        assert source.fields["map"].shape == (8, 10)
        for position in range(len(source)):
            index = int(source.read(position)[0, 0, 0])
            np.testing.assert_array_equal(source.read_map(position), original_map(split, index))
    unpickled = pickle.loads(pickle.dumps(dataset.test))
    np.testing.assert_array_equal(unpickled.read_map(3), dataset.test.read_map(3))
    assert load(DataSettings("tfds:jaxcnn_tiny/maps", str(root), features=("image", "mask")), 0).test.read_map(3).shape == (
        8,
        10,
    )


def test_maps_of_a_class_file(root, tmp_path):
    (tmp_path / "names.csv").write_text("name,value\nanimal,0\nvoid,1\nanimal,2\nother,255\n")
    stated, named = read(root, "maps", ("image", "mask"), str(tmp_path / "names.csv")), read(root, "maps", ("image", "mask"))
    assert stated.class_names == ("animal", "other")
    expected = np.full(256, 255)
    expected[[0, 1, 2, 255]] = 0, 255, 0, 1
    np.testing.assert_array_equal(stated.test.read_map(2), expected[named.test.read_map(2)])
    wrong = message(read, root, "maps", ("image", "kind"))
    assert wrong.startswith("data.classes: it is not set; tfds:jaxcnn_tiny/maps: the feature 'kind' needs a class file")
    assert "has several image features" in message(read, root, "maps")

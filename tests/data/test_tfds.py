"""The TFDS source, on tiny data sets that are prepared here without TensorFlow: pictures as file objects need none."""

import importlib.util
import io
import json
import os
import pickle
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from common.child_processes import run
from PIL import Image

from jaxcnn.config import default_config
from jaxcnn.data import load
from jaxcnn.data.decode import Centre, look
from jaxcnn.data.tfds import prepared
from jaxcnn.errors import UserError

PREPARE = Path(__file__).parents[2] / "experiments" / "prepare.py"
NAMES = ["cat", "dog", "eel"]
SIZES = {"train": 40, "test": 12, "validation": 9}
PICTURE, CLASSES = tfds.features.Image, tfds.features.ClassLabel
FEATURES = {
    "plain": lambda: {"image": PICTURE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES), "id": tfds.features.Text()},
    "sizes": lambda: {"photo": PICTURE(), "kind": CLASSES(names=NAMES)},
    "several": lambda: {"image": PICTURE(shape=(8, 10, 1)), "labels": tfds.features.Sequence(CLASSES(names=NAMES))},
    "arrays": lambda: {"pixels": tfds.features.Tensor(shape=(8, 10), dtype=np.uint8), "label": CLASSES(num_classes=3)},
    "coarse": lambda: {"image": PICTURE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES), "coarse": CLASSES(num_classes=2)},
    "unlabelled": lambda: {"image": PICTURE(shape=(8, 10, 3)), "label": CLASSES(names=NAMES)},
    "text": lambda: {"id": tfds.features.Text(), "label": CLASSES(names=NAMES)},
}


def original(config, split, index):
    """(image, label) as they go in; the first two pixels of an image say which it is."""
    height, width = (20 + index, 33) if config == "sizes" else (8, 10)
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    image[0, :2] = index, list(SIZES).index(split), 0
    image = image[..., 0] if config in ("several", "arrays") else image
    if config == "several":
        return image, [k for k in range(3) if index & 1 << k]
    return image, -1 if config == "unlabelled" and split == "test" else index % 3


class JaxcnnTiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in FEATURES]  # noqa: RUF012

    def _info(self):
        features = tfds.features.FeaturesDict(FEATURES[self.builder_config.name]())
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        config = self.builder_config.name
        for index in range(SIZES[split]):
            image, label = original(config, split, index)
            file = io.BytesIO()
            Image.fromarray(image).save(file, "png")
            file.seek(0)
            values = {"pixels": image, "labels": label, "label": label, "kind": label, "coarse": 1, "id": f"{split}{index}"}
            yield index, {key: values.get(key, file) for key in self.info.features}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data_dir with every config prepared."""
    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("tfds")
    for name in FEATURES:
        JaxcnnTiny(config=name, data_dir=root, file_format="array_record").download_and_prepare()
    return root


def read(root, config, features=(), **splits):
    return prepared(f"jaxcnn_tiny/{config}", str(root), splits, features)


def message(function, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def damaged(root, tmp_path, config="plain"):
    """A copy to be damaged: its data_dir, and its folder of files."""
    shutil.copytree(root / "jaxcnn_tiny" / config, tmp_path / "jaxcnn_tiny" / config)
    return tmp_path, tmp_path / "jaxcnn_tiny" / config / "1.0.0"


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
            image, labels = source[position], source.labels[position]
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


def test_pictures_of_varying_size_are_seen_as_a_view_shows_them(root):
    source = read(root, "sizes").train
    assert source.image_shape is None
    for position in (0, 17):
        whole, view = source[position], Centre((16, 16))
        expected = original("sizes", "train", int(whole[0, 0, 0]))[0]
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(source.view(position, view), look(expected, view(*expected.shape[:2])))


def test_load_brings_pictures_of_varying_size_to_one(root):
    config = default_config().data
    config.name, config.root = "tfds:jaxcnn_tiny/sizes", str(root)
    dataset = load(config, seed=0)
    assert dataset.train.image_shape == dataset.train[0].shape == (32, 32, 3)
    config.channels, config.image_size = 1, 16
    assert load(config, seed=0).test[3].shape == (16, 16, 1)


def test_a_split_without_labels_is_refused_where_it_is_asked_for(root):
    settings = default_config().data
    settings.name, settings.root, settings.test_split = "tfds:jaxcnn_tiny/unlabelled", str(root), "test"
    assert "test: example 0 has the label -1, outside 0 to 2, for 3 classes" in message(load, settings, seed=0)


@pytest.mark.parametrize(("config", "channels"), [("arrays", 3), ("several", 3), ("plain", 1)])
def test_channels_are_those_asked_for(root, config, channels):
    settings = default_config().data
    settings.name, settings.root, settings.channels = f"tfds:jaxcnn_tiny/{config}", str(root), channels
    source, stored = load(settings, seed=0).train, read(root, config).train
    assert source.image_shape == source[5].shape == (8, 10, channels)
    expected = np.repeat(stored[5], 3, axis=2) if channels == 3 else stored[5] @ np.array([[0.299], [0.587], [0.114]])
    assert np.abs(source[5] - expected).max() < 1.01  # the decoder cuts fractions off


def test_a_source_sent_to_another_process_reads_the_same(root):
    source = read(root, "plain", train="train[10:25]").train
    there = pickle.loads(pickle.dumps(source))
    for index in range(15):
        np.testing.assert_array_equal(source[index], there[index])
    assert len(pickle.dumps(source)) < 5000


def test_splits_take_the_slices_that_they_name(root):
    whole = read(root, "plain").train
    dataset = read(root, "plain", train="train[:50%]+validation[:4]", validation="train[30:]", test="test[5:]")
    assert {name: len(source) for name, source in dataset.parts().items()} == {"train": 24, "validation": 10, "test": 7}
    for index in range(20):
        np.testing.assert_array_equal(dataset.train[index], whole[index])
    assert dataset.validation.name(0) == whole.name(30)
    np.testing.assert_array_equal(dataset.validation[9], whole[39])
    assert (dataset.train[20][0, 0, 1], dataset.train[23][0, 1, 1]) == (2, 2)


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
        ({"train": "train[30:20]"}, "'train[30:20]' holds no example"),
        (
            {"train": "train", "test": "train[90%:]"},
            "data.test_split: 'train[90%:]' shares examples with 'train', which is for train",
        ),
        ({"test": "train"}, "data.train_split: say which split"),
        ({"test": "all"}, "data.train_split: say which split"),
    ],
)
def test_wrong_splits_are_said_in_one_line(root, splits, says):
    assert says in message(read, root, "plain", **splits)


def test_features_are_chosen_or_found_or_the_choice_is_said(root):
    assert "several features that are class labels: coarse, label" in message(read, root, "coarse")
    assert read(root, "coarse", ("image", "coarse")).class_names == ("0", "1")
    assert "no class label 'labl' (did you mean \"label\"?)" in message(read, root, "coarse", ("image", "labl"))
    assert "no image feature" in message(read, root, "text")
    assert "is not a pair" in message(read, root, "plain", ("image",))


def test_a_set_that_is_not_prepared_is_named_with_the_command_that_prepares_it(root, tmp_path):
    said = message(prepared, "mnist", str(root), {})
    assert f"experiments/prepare.py --dataset=mnist --data_dir={root}" in said
    assert 'did you mean "jaxcnn_tiny"' in message(prepared, "jaxcn_tiny", str(root), {})
    assert "its folder holds" in message(prepared, "jaxcnn_tiny/plane", str(root), {})
    assert "is not written as tfds:NAME" in message(prepared, "a/b/c", str(root), {})
    (tmp_path / "mnist" / "incomplete.ABC_3.0.1").mkdir(parents=True)
    assert "its preparation was cut off" in message(prepared, "mnist", str(tmp_path), {})


@pytest.mark.parametrize("size", [0, 1000, 65536, 100_001, -1])
def test_a_truncated_file_is_named(root, tmp_path, size):
    data_dir, folder = damaged(root, tmp_path)
    (file,) = folder.glob("*-train.array_record*")
    file.write_bytes(file.read_bytes()[:size])
    assert re.match(f"{re.escape(str(file))}, record 0: damaged", message(read, data_dir, "plain"))


def test_a_changed_byte_is_found_and_its_record_named(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    whole = read(root, "plain").train
    (file,) = folder.glob("*-train.array_record*")
    content = bytearray(file.read_bytes())
    content[content.index(whole.encoded(7)) + 50] ^= 1
    file.write_bytes(content)
    assert re.match(f"{re.escape(str(file))}, record 7: damaged", message(read, data_dir, "plain"))


def test_a_missing_or_half_written_file_is_named(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    (folder / "dataset_info.json").write_text((folder / "dataset_info.json").read_text()[:100])
    assert "damaged or half written" in message(read, data_dir, "plain")
    (folder / "dataset_info.json").unlink()
    assert "damaged or half written" in message(read, data_dir, "plain")
    (folder / "features.json").unlink()
    assert "to prepare it" in message(read, data_dir, "plain")
    data_dir, folder = damaged(root, tmp_path, "several")
    (file,) = folder.glob("*-test.array_record*")
    file.unlink()
    assert str(file) in message(read, data_dir, "several")


def test_a_data_folder_that_can_not_be_read_is_named(root, monkeypatch):
    def closed(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("jaxcnn.data.tfds.os.listdir", closed)
    assert message(read, root, "plain") == f"{root}: can't be read (Permission denied)"


def test_a_set_prepared_as_tfrecord_is_said_to_be_so(root, tmp_path):
    data_dir, folder = damaged(root, tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    assert "prepared as tfrecord, not as array_record" in message(read, data_dir, "plain")


def test_settings_of_tfds_are_refused_elsewhere_and_groups_here(root):
    config = default_config().data
    config.train_split = "train[:10%]"
    assert "data.train_split: digits has none" in message(load, config, seed=0)
    config.name, config.root, config.group = "tfds:jaxcnn_tiny/plain", str(root), "x"
    assert "data.group" in message(load, config, seed=0)


def test_trusted_files_change_the_expected_hash_of_their_url_alone(prepare, tmp_path, capsys):
    class Builder:
        url_infos = dict(tfds.builder_cls("mnist").url_infos)  # noqa: RUF012

    url, before = next((u, i) for u, i in Builder.url_infos.items() if i.filename == "train-labels-idx1-ubyte.gz")
    (tmp_path / before.filename).write_bytes(b"packed anew")
    others = {u: i for u, i in Builder.url_infos.items() if u != url}
    prepare["_trust"](Builder, tmp_path)
    assert Builder.url_infos[url].size == len(b"packed anew")
    assert {u: i for u, i in Builder.url_infos.items() if u != url} == others
    assert before.checksum in capsys.readouterr().out


@pytest.fixture(scope="module")
def prepare():
    """What experiments/prepare.py defines; once, as its flags can't be defined again."""
    return runpy.run_path(str(PREPARE))


@pytest.fixture
def opened(monkeypatch):
    """The splits whose records were opened."""
    opened = []
    as_data_source = tfds.core.DatasetBuilder.as_data_source

    def open_(self, split, **keywords):
        opened.append(split)
        return as_data_source(self, split, **keywords)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", open_)
    return opened


def kept(folder):
    return sorted(folder.glob(".jaxcnn-labels-*"))


def without_labels(root, tmp_path, config="plain"):
    """A copy of which no label was read yet."""
    data_dir, folder = damaged(root, tmp_path, config)
    for file in kept(folder):
        file.unlink()
    return data_dir, folder


@pytest.mark.parametrize("config", ["plain", "several"])
def test_labels_that_were_read_once_are_taken_without_opening_a_record(root, tmp_path, opened, config):
    data_dir, folder = without_labels(root, tmp_path, config)
    first = read(data_dir, config)
    assert sorted(opened) == sorted(SIZES)
    assert len(kept(folder)) == 3
    opened.clear()
    for part, source in read(data_dir, config).parts().items():
        np.testing.assert_array_equal(source.labels, first.parts()[part].labels, strict=True)
    sliced = read(data_dir, config, train="train[10:20]+test[:3]", test="test[5:]")
    expected = np.concatenate([first.train.labels[10:20], first.test.labels[:3]])
    np.testing.assert_array_equal(sliced.train.labels, expected, strict=True)
    np.testing.assert_array_equal(sliced.test.labels, first.test.labels[5:], strict=True)
    assert not opened
    assert len(kept(folder)) == 3


def test_labels_of_a_slice_are_kept_for_that_slice(root, tmp_path, opened):
    data_dir, _ = without_labels(root, tmp_path)
    for split in ("train[:10]", "train[:10]", "train[10:20]", "train"):
        labels = read(data_dir, "plain", train=split).train.labels
    np.testing.assert_array_equal(labels, read(root, "plain").train.labels)
    assert [split for split in opened if "train" in split] == ["train[:10]", "train[10:20]", "train"]


def test_kept_labels_hold_for_one_feature_of_unchanged_files(root, tmp_path, opened):
    data_dir, folder = without_labels(root, tmp_path, "coarse")
    read(data_dir, "coarse", ("image", "label"))
    assert set(read(data_dir, "coarse", ("image", "coarse")).train.labels) == {1}
    opened.clear()
    (file,) = folder.glob("*-test.array_record*")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    read(data_dir, "coarse", ("image", "label"))
    assert opened == ["test"]


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b[:80] + bytes([b[80] ^ 1]) + b[81:]])
def test_damaged_kept_labels_are_read_anew(root, tmp_path, opened, damage):
    data_dir, folder = without_labels(root, tmp_path)
    expected = read(data_dir, "plain").train.labels
    for file in kept(folder):
        file.write_bytes(damage(file.read_bytes()))
    opened.clear()
    for _ in range(2):
        np.testing.assert_array_equal(read(data_dir, "plain").train.labels, expected)
    assert sorted(opened) == sorted(SIZES)


def test_kept_labels_of_another_number_or_type_are_read_anew(root, tmp_path, opened):
    data_dir, folder = without_labels(root, tmp_path)
    expected = read(data_dir, "plain").train.labels
    for wrong in (np.zeros(3, np.int32), np.zeros(40), np.array([None] * 40)):
        for file in kept(folder):
            np.savez(file, labels=wrong)
        np.testing.assert_array_equal(read(data_dir, "plain").train.labels, expected, strict=True)


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_a_folder_that_cannot_be_written_keeps_no_labels_and_is_read(root, tmp_path, monkeypatch, failing):
    data_dir, folder = without_labels(root, tmp_path)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(*{"open": (Path, "open", refuse), "replace": (os, "replace", refuse)}[failing])
    np.testing.assert_array_equal(read(data_dir, "plain").train.labels, read(root, "plain").train.labels)
    assert not kept(folder)


def test_prepare_leaves_the_labels_of_every_split(prepare, root, tmp_path, opened, capsys):
    keep_labels = prepare["_keep_labels"]
    data_dir, folder = without_labels(root, tmp_path, "unlabelled")
    keep_labels("jaxcnn_tiny/unlabelled", str(data_dir), SIZES)
    assert len(kept(folder)) == len(opened) == 3
    keep_labels("jaxcnn_tiny/text", str(root), SIZES)
    assert "labels are not read yet: tfds:jaxcnn_tiny/text has no image" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_prepare_says_how_to_install_tensorflow():
    code, out, err = run(PREPARE, "--dataset=mnist")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: TensorFlow, which prepares .*: pip install .*prepare.*\n", err)

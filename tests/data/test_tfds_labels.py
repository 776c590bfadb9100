"""Labels of TFDS data sets, which are saved next to the records, also by experiments/prepare.py."""

import importlib.util
import os
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from common.child_processes import run
from common.tiny_tfds import SIZES, damaged, read

PREPARE = Path(__file__).parents[2] / "experiments" / "prepare.py"


@pytest.fixture
def root(tiny_tfds):
    """A data_dir in which every config is prepared."""
    return tiny_tfds


def test_trusted_files_change_the_expected_hash_of_their_url_alone(prepare, tmp_path, capsys):
    class Builder:
        url_infos = dict(tfds.builder_cls("mnist").url_infos)  # noqa: RUF012

    url, before = next((u, i) for u, i in Builder.url_infos.items() if i.filename == "train-labels-idx1-ubyte.gz")
    (tmp_path / before.filename).write_bytes(b"packed again")
    others = {u: i for u, i in Builder.url_infos.items() if u != url}
    prepare["_trust"](Builder, tmp_path)
    assert Builder.url_infos[url].size == len(b"packed again")
    assert {u: i for u, i in Builder.url_infos.items() if u != url} == others
    assert before.checksum in capsys.readouterr().out


@pytest.fixture(scope="module")
def prepare():
    """The globals of experiments/prepare.py, run once because its flags cannot be defined twice."""
    return runpy.run_path(str(PREPARE))


@pytest.fixture
def opened(monkeypatch):
    """The list of the splits whose records were opened."""
    opened = []
    as_data_source = tfds.core.DatasetBuilder.as_data_source

    def open_(self, split, **keywords):
        opened.append(split)
        return as_data_source(self, split, **keywords)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", open_)
    return opened


def saved_labels(folder):
    return sorted(folder.glob(".jaxcnn-labels-*"))


def without_labels(root, tmp_path, config="plain"):
    """Copies a config without its saved labels. Returns the copy's data_dir and its folder of files."""
    data_dir, folder = damaged(root, tmp_path, config)
    for file in saved_labels(folder):
        file.unlink()
    return data_dir, folder


@pytest.mark.parametrize("config", ["plain", "several"])
def test_labels_that_were_read_once_are_taken_without_opening_a_record(root, tmp_path, opened, config):
    data_dir, folder = without_labels(root, tmp_path, config)
    first = read(data_dir, config)
    assert sorted(opened) == sorted(SIZES)
    assert len(saved_labels(folder)) == 3
    opened.clear()
    for part, source in read(data_dir, config).parts().items():
        np.testing.assert_array_equal(source.labels, first.parts()[part].labels, strict=True)
    sliced = read(data_dir, config, train="train[10:20]+test[:3]", test="test[5:]")
    expected = np.concatenate([first.train.labels[10:20], first.test.labels[:3]])
    np.testing.assert_array_equal(sliced.train.labels, expected, strict=True)
    np.testing.assert_array_equal(sliced.test.labels, first.test.labels[5:], strict=True)
    assert not opened
    assert len(saved_labels(folder)) == 3


def test_labels_of_a_slice_are_saved_for_that_slice(root, tmp_path, opened):
    data_dir, _ = without_labels(root, tmp_path)
    for split in ("train[:10]", "train[:10]", "train[10:20]", "train"):
        labels = read(data_dir, "plain", train=split).train.labels
    np.testing.assert_array_equal(labels, read(root, "plain").train.labels)
    assert [split for split in opened if "train" in split] == ["train[:10]", "train[10:20]", "train"]


def test_saved_labels_hold_for_one_feature_of_unchanged_files(root, tmp_path, opened):
    data_dir, folder = without_labels(root, tmp_path, "coarse")
    read(data_dir, "coarse", ("image", "label"))
    assert set(read(data_dir, "coarse", ("image", "coarse")).train.labels) == {1}
    opened.clear()
    (file,) = folder.glob("*-test.array_record*")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    read(data_dir, "coarse", ("image", "label"))
    assert opened == ["test"]


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b[:80] + bytes([b[80] ^ 1]) + b[81:]])
def test_damaged_saved_labels_are_read_again(root, tmp_path, opened, damage):
    data_dir, folder = without_labels(root, tmp_path)
    expected = read(data_dir, "plain").train.labels
    for file in saved_labels(folder):
        file.write_bytes(damage(file.read_bytes()))
    opened.clear()
    for _ in range(2):
        np.testing.assert_array_equal(read(data_dir, "plain").train.labels, expected)
    assert sorted(opened) == sorted(SIZES)


def test_saved_labels_of_another_number_or_type_are_read_again(root, tmp_path, opened):
    data_dir, folder = without_labels(root, tmp_path)
    expected = read(data_dir, "plain").train.labels
    for wrong in (np.zeros(3, np.int32), np.zeros(40), np.array([None] * 40)):
        for file in saved_labels(folder):
            np.savez(file, labels=wrong)
        np.testing.assert_array_equal(read(data_dir, "plain").train.labels, expected, strict=True)


@pytest.mark.parametrize("failing", ["open", "replace"])
def test_a_folder_that_cannot_be_written_saves_no_labels_and_is_read(root, tmp_path, monkeypatch, failing):
    data_dir, folder = without_labels(root, tmp_path)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(*{"open": (Path, "open", refuse), "replace": (os, "replace", refuse)}[failing])
    np.testing.assert_array_equal(read(data_dir, "plain").train.labels, read(root, "plain").train.labels)
    assert not saved_labels(folder)


def test_prepare_leaves_the_labels_of_every_split(prepare, root, tmp_path, opened, capsys):
    save_labels = prepare["_save_labels"]
    data_dir, folder = without_labels(root, tmp_path, "unlabelled")
    save_labels("jaxcnn_tiny/unlabelled", str(data_dir), SIZES)
    assert len(saved_labels(folder)) == len(opened) == 3
    save_labels("jaxcnn_tiny/text", str(root), SIZES)
    assert "the labels were not read: tfds:jaxcnn_tiny/text has no image" in capsys.readouterr().out


@pytest.mark.process
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_prepare_says_how_to_install_tensorflow():
    code, out, err = run(PREPARE, "--dataset=mnist")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: TensorFlow, which prepares .*: pip install .*prepare.*\n", err)

"""Which folders are splits and which are classes: common names are recognized, ambiguous ones are refused."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxcnn.config import changed, default_config
from jaxcnn.data import DataSettings, load
from jaxcnn.data.layout import find_layout
from jaxcnn.errors import UserError

IMAGE = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))


@pytest.fixture
def tree(tmp_path):
    """Creates folders of four images each."""

    def make(*folders):
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(4):
                IMAGE.save(tmp_path / folder / f"{number}.png")
        return tmp_path

    return make


def both(*parts):
    return [f"{part}/{name}" for part in parts for name in ("cats", "dogs")]


def loaded(root, **splits):
    settings = {"data.name": "folder", "data.root": str(root), "data.image_size": 32, "data.validation": 0.0}
    config = changed(default_config(), settings | {f"data.{part}_split": folder for part, folder in splits.items()})
    return load(config.data, seed=0)


def folders_of_parts(dataset, root, depth=1):
    """Returns {split: the first `depth` names, relative to `root`, of the folders that contain its images}."""
    return {
        part: {"/".join(os.path.relpath(source.name(i), root).split("/")[:depth]) for i in range(len(source))}
        for part, source in dataset.parts().items()
    }


def refused(root, **splits):
    with pytest.raises(UserError) as mistake:
        loaded(root, **splits)
    assert "\n" not in str(mistake.value)
    return str(mistake.value)


NAMES = {
    "train": ["train", "Train", "TRAINING", "training_set", "train-data", "trainset", "TrainImages",
              "trainval", "train_val", "train set"],
    "validation": ["val", "valid", "Validation", "validation_set", "ValidationImages", "dev", "devset"],
    "test": ["test", "testing", "test_set", "Test-Data", "TestImages", "testset", "eval", "evaluation", "holdout",
             "hold_out", "hold-out set"],
}  # fmt: skip


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in NAMES.items() for name in names])
def test_common_name_of_a_part_is_recognized(tree, part, name):
    names = {"train": "train", "validation": "val", "test": "test"} | {part: name}
    root = tree(*both(*names.values()))
    dataset = loaded(root)
    assert dataset.class_names == ("cats", "dogs")
    assert folders_of_parts(dataset, root) == {part: {name} for part, name in names.items()}


@pytest.mark.parametrize(
    ("train", "test"), [("seg_train", "seg_test"), ("train2017", "test2017"), ("ILSVRC2012_img_train", "ILSVRC2012_img_test"),
                        ("cats-vs-dogs (train)", "cats-vs-dogs (test)"), ("segTrain", "segTest"), ("2017train", "2017test")],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [False, True])
def test_names_that_share_another_word_are_parts(tree, train, test, wrapped):
    root = tree(*both(*(f"{part}/{part}" if wrapped else part for part in (train, test))))
    dataset = loaded(root)
    assert dataset.class_names == ("cats", "dogs")
    assert folders_of_parts(dataset, root) == {"train": {train}, "test": {test}}
    assert dataset.notes[0] == f'splits by folder names: train = "{train}", test = "{test}"'


def test_evaluation_set_next_to_a_test_set_is_for_validation(tree):
    root = tree(*both("train", "eval", "test"))
    assert folders_of_parts(loaded(root), root) == {"train": {"train"}, "validation": {"eval"}, "test": {"test"}}


@pytest.mark.parametrize("pred", ["seg_pred", "seg_pred/seg_pred", "seg_unlabeled"])
def test_folder_whose_name_says_that_it_has_no_labels_is_ignored(tree, pred):
    root = tree(*both("seg_train", "seg_test"), pred)
    dataset = loaded(root)
    assert folders_of_parts(dataset, root) == {"train": {"seg_train"}, "test": {"seg_test"}}
    assert dataset.notes[1].startswith(f'ignored "{pred[: pred.find("/", 1)] if "/" in pred else pred}", unlabeled by its name')


@pytest.mark.parametrize(
    "names", [("bicycle", "bus", "car", "train"), ("invalid", "valid"), ("bus", "express_train", "steam_train")]
)
def test_class_may_be_called_like_a_part(tree, names):
    dataset = loaded(tree(*names))
    assert dataset.class_names == names
    assert sum(map(len, dataset.parts().values())) == 4 * len(names)


AMBIGUOUS = {
    "no training set": (both("val", "test"), 'no training set next to "test" and "val"'),
    "test set beside classes": (["cats", "dogs", "test"], 'no training set next to "test"'),
    "another name": (both("train", "extra"), '"extra" next to "train"'),
    "other names": (both("train", "test", "extra1", "extra2"), '"extra1", "extra2" next to "test", "train"'),
    "class with folders that is called train": (["bus", "car", "train/steam", "train/diesel"], '"bus", "car" next to "train"'),
    "two for one part": (both("train", "test", "testing"), '"test" and "testing" are both the test split'),
    "two families": (both("a_train", "a_test", "b_train", "b_test"), '"a_test" and "b_test" are both the test split'),
    "part and class in one name": (["train_cats", "train_dogs", "test_cats", "test_dogs"], "are both the test split"),
    "no names of parts": (both("lab_a", "lab_b"), 'or splits that contain the classes "cats", "dogs".'),
    "two evaluation sets": (both("train", "eval", "holdout"), '"eval" and "holdout" are both the test split'),
    "no class folders": (["train", "test"], '"train" is the training set by its name, but contains no class folders'),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_parts_or_classes_is_refused_and_can_be_stated(tree, name):
    folders, reason = AMBIGUOUS[name]
    root = tree(*folders)
    said = refused(root)
    assert said.startswith(f"{root}: ")
    assert reason in said
    assert "--config.data.train_split=FOLDER" in said
    tops = sorted({folder.split("/")[0] for folder in folders})
    if "both" not in said:
        assert all(f'"{top}" (' in said for top in tops)  # what was found
    everything = loaded(root, train=".")
    assert everything.class_names == tuple(tops)
    assert sum(map(len, everything.parts().values())) == 4 * len(folders)


def test_parts_are_those_that_are_stated(tree):
    root = tree(*both("train", "test", "extra"), "bus", "car")
    dataset = loaded(root, train="train", test="extra")
    assert folders_of_parts(dataset, root) == {"train": {"train"}, "test": {"extra"}}
    assert dataset.notes == ('ignored next to the training set: "test", "bus", "car"',)
    dataset = loaded(root, train="extra")
    assert folders_of_parts(dataset, root) == {"train": {"extra"}, "test": {"test"}}
    assert dataset.notes == ('ignored next to the training set: "train", "bus", "car"',)


def test_all_folders_but_the_stated_test_set_are_classes(tree):
    root = tree("cats", "dogs", *both("test"))
    dataset = loaded(root, train=".", test="test")
    assert folders_of_parts(dataset, root) == {"train": {"cats", "dogs"}, "test": {"test"}}


@pytest.mark.parametrize("stated", ["trian", "train/cats/0.png"])
def test_stated_folder_that_is_not_there_is_named(tree, stated):
    root = tree(*both("train", "test"))
    assert refused(root, train=stated) == f'data.train_split: no folder "{stated}" in {root}; it contains "test", "train"'
    assert refused(root, test=".") == 'data.test_split: "." is valid only for data.train_split'
    assert refused(root, train="train", test="train") == 'data.test_split: "train" is the folder of another split'


def test_only_a_folder_can_be_the_training_set(tree):
    assert refused(tree(*both("train")), train="off").startswith('data.train_split: no folder "off" in ')


@pytest.mark.parametrize("setting", ["train_split", "validation_split", "test_split", "features"])
def test_source_without_splits_refuses_the_setting(setting):
    settings = DataSettings(**{setting: ("a", "b") if setting == "features" else "train"})
    with pytest.raises(UserError, match=rf"^data.{setting}: .* has no effect with data.name=digits, only with .*huggingface:"):
        load(settings, seed=0)


@pytest.mark.parametrize("above", ["", "train/"])
def test_parts_inside_of_classes_are_refused_and_can_be_stated(tree, above):
    root = tree(*(f"{above}{name}/{part}" for name in ("ant", "bee") for part in ("train", "test")))
    said = refused(root)
    assert (
        said.startswith(f'{root}: the class folders contain the folders "test", "train"')
        or "or splits that contain the classes" in said
    )
    merged = loaded(root, train=above or ".")
    assert merged.class_names == ("ant", "bee")
    assert sum(map(len, merged.parts().values())) == 16


def test_each_class_folder_can_hold_its_parts(tree):
    root = tree(*(f"{name}/{part}" for name in ("ant", "bee") for part in ("train", "test", "other")))
    dataset = loaded(root, train="*/train", test="*/test")
    assert dataset.class_names == ("ant", "bee")
    expected = {part: {f"{name}/{part}" for name in ("ant", "bee")} for part in ("train", "test")}
    assert folders_of_parts(dataset, root, depth=2) == expected
    assert dataset.notes == ('ignored in class folders: "other"',)


def test_message_about_parts_inside_of_classes_gives_the_settings(tree):
    said = refused(tree("ant/Training", "ant/Testing", "bee/Training", "bee/Testing", "bee/more"))
    assert "'--config.data.test_split=*/Testing' '--config.data.train_split=*/Training'" in said


@pytest.mark.parametrize("folder", ["test", "test/unknown", "test/Unlabeled", "test/images"])
def test_test_set_without_labels_is_said_to_have_none_and_can_be_left_out(tree, folder):
    root = tree(*both("train"), folder)
    said = refused(root)
    assert said.startswith(f"{root}/test: no labels: ")
    assert "--config.data.test_split=off" in said
    assert "predict.py" in said
    dataset = loaded(root, test="off")
    assert folders_of_parts(dataset, root) == {"train": {"train"}, "test": {"train"}}
    assert dataset.notes == ('ignored because of a setting: "test"',)


@pytest.mark.parametrize("train", ["", "."])
def test_test_set_without_labels_next_to_classes_can_be_left_out(tree, train):
    assert loaded(tree("cats", "dogs", "test"), train=train, test="off").class_names == ("cats", "dogs")


def test_folder_around_the_classes_is_named(tree):
    root = tree(*both("flowers"))
    assert refused(root).endswith(f'to use the 2 folders in "flowers", set data.root={root}/flowers')


# ── Names of classes ────────────────────────────────────────────────────────────────────────────────────────────────


def test_classes_that_are_numbers_are_in_the_order_of_the_numbers(tree):
    root = tree(*map(str, range(12)))
    assert loaded(root).class_names == tuple(map(str, range(12)))
    shutil.copytree(root / "3", root / "3b")
    assert loaded(root).class_names == ("0", "1", "10", "11", "2", "3", "3b", "4", "5", "6", "7", "8", "9")


def test_class_in_both_unicode_forms_is_one_class(tree):
    root = tree("train/caf\u00e9", "train/bar", "test/cafe\u0301", "test/bar")
    dataset = loaded(root)
    assert dataset.class_names == ("bar", "caf\u00e9")
    assert dataset.test.labels.tolist() == [0] * 4 + [1] * 4
    said = refused(tree("train/cafe\u0301"))
    assert said == f"{root}/train: two folders have the class name \"caf\u00e9\": 'cafe\\u0301' and 'caf\\xe9'"


def test_layout_needs_no_settings(tree):
    root = tree(*both("train", "test"))
    classes = find_layout(root).classes
    assert classes == {part: {name: root / part / name for name in ("cats", "dogs")} for part in ("train", "test")}

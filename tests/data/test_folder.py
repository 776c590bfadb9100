import os
import shutil

import cv2
import numpy as np
import pytest

from jaxcnn.config import Config
from jaxcnn.data import DataSettings, Once, Order, Reading, load, make_reader, training_view
from jaxcnn.errors import UserError
from jaxcnn.evaluate.settings import EvaluateSettings
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.experiment import batches_once, reading

COLORS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}


def write_image(path, color, size=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), color[::-1], np.uint8))


@pytest.fixture
def root(tmp_path):
    """Three classes of 10 images of one color each, of several sizes; by the file names they are of two tracks."""
    for name, color in COLORS.items():
        for i in range(10):
            write_image(tmp_path / name / f"track{i % 2}_{i}.png", color, (40 + i, 50))
    (tmp_path / "blue" / "notes.txt").write_text("ignored")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def settings(root, **changes):
    validation = {} if "fold" in changes else {"validation": 0.25}
    return DataSettings(**{"name": "folder", "root": str(root), "test": 0.2, **validation, **changes})


def names(source):
    return {source.name(i) for i in range(len(source))}


def test_classes_sizes_and_parts_are_found(root):
    dataset = load(settings(root), seed=0)
    assert dataset.class_names == ("blue", "green", "red")
    assert {part: len(source) for part, source in dataset.parts().items()} == {"train": 18, "validation": 6, "test": 6}
    parts = list(map(names, dataset.parts().values()))
    assert len(set.union(*parts)) == 30  # nothing twice
    assert dataset.train.image_shape == (32, 32, 3)
    for i in range(len(dataset.train)):
        np.testing.assert_array_equal(dataset.train.read(i)[16, 16], list(COLORS.values())[dataset.train.labels[i]])
    assert names(load(settings(root), seed=1).test) == names(dataset.test)
    assert names(load(settings(root), seed=1).validation) != names(dataset.validation)


def test_own_test_and_validation_folders_are_taken(root, tmp_path):
    for part in ("train", "Val", "test"):
        for name, color in COLORS.items():
            write_image(tmp_path / "split" / part / name / "deep" / f"{part}.jpg", color)
    dataset = load(settings(tmp_path / "split"), seed=0)
    assert [len(source) for source in dataset.parts().values()] == [3, 3, 3]
    assert all("Val" in name for name in names(dataset.validation))


def test_groups_stay_on_one_side(root):
    for name, color in COLORS.items():  # ten tracks of five, in every class
        for i in range(10, 50):
            write_image(root / name / f"track{i % 10}_{i}.png", color)
    dataset = load(settings(root, group=r"track\d"), seed=0)
    tracks = [{name.split("/")[-1].split("_")[0] for name in names(source)} for source in dataset.parts().values()]
    assert sum(map(len, tracks)) == len(set.union(*tracks)) == 10, "a group is in two splits"
    assert all(0 < len(track) < len(tracks[0]) for track in tracks[1:])


def test_folds_share_nothing_and_cover_the_data_set(root):
    folds = [names(load(settings(root, fold=f"{i}/4"), seed=0).validation) for i in range(1, 5)]
    assert sum(map(len, folds)) == len(set.union(*folds)) == 30 - len(load(settings(root), seed=0).test)


def parts_of(dataset, root):
    """Returns {file relative to `root`: split}."""
    return {os.path.relpath(name, root): part for part, source in dataset.parts().items() for name in names(source)}


@pytest.mark.parametrize("changes", [{}, {"fold": "2/3"}, {"group": r"track\d"}, {"name": "csv"}])
def test_images_stay_in_their_part_when_others_are_added_or_all_are_moved(root, tmp_path_factory, changes):
    def loaded(where):
        if changes.get("name") == "csv":
            rows = [f"{name}/{path.name},{name}\n" for name in COLORS for path in (where / name).glob("*.png")]
            (where / "table.csv").write_text("path,label\n" + "".join(rows))
        return parts_of(load(settings(where / "table.csv" if changes.get("name") else where, **changes), seed=0), where)

    for name, color in COLORS.items():
        for i in range(10, 50):
            write_image(root / name / f"track{i % 10}_{i}.png", color)
    before = loaded(root)
    assert len(before) == 150
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.move(root, moved)
    for name in ("blue", "green"):  # names that sort before all others
        for i in range(3):
            write_image(moved / name / f"!track{i}.png", COLORS[name])
    after = loaded(moved)
    assert len(after) == 156
    assert {name: after[name] for name in before} == before


def batches(source, resident, places, **how):
    skipped = set()
    reader = make_reader(source, make_mesh(1), Reading(resident, skip=True, skipped=skipped, **how))
    read = [{name: np.asarray(array) for name, array in batch.items()} for batch in reader(places, 0, 4, [1, 2, 1])]
    return {name: np.concatenate([batch[name] for batch in read]) for name in read[0]}, skipped


@pytest.mark.parametrize("training", [True, False])
def test_unreadable_image_is_skipped_alike_by_both_readers(root, training):
    source = load(settings(root, validation=0.0), seed=0).train
    broken = source.name(5)
    with open(broken, "wb") as file:
        file.write(b"not an image")
    places = Order(len(source), 0) if training else Once(len(source))
    (resident, skipped), (streamed, also_skipped) = (batches(source, resident, places) for resident in ("on", "off"))
    for name in resident:
        np.testing.assert_array_equal(resident[name][resident["mask"]], streamed[name][streamed["mask"]], err_msg=name)
    np.testing.assert_array_equal(resident["mask"], streamed["mask"])
    assert resident["mask"].sum() == (16 if training else 15)
    assert skipped == {broken}
    assert also_skipped <= skipped
    with pytest.raises(UserError, match="not an image that can be decoded"):
        list(make_reader(source, make_mesh(1), Reading("off"))(Once(len(source)), 0, 4, [6]))


@pytest.mark.parametrize("changes", [{}, {"cache": "memory"}, {"cache": "disk"}, {"resident": "off"}])
def test_training_set_is_evaluated_by_its_centers_not_by_random_crops(root, changes):
    """Evaluation equals that without random crops, also if the cache holds another view of the images for these."""
    for path in root.glob("*/*.png"):  # gradients, not square
        gradient = np.linspace(0, 255, 40 * 70).reshape(40, 70, 1).astype(np.uint8)
        cv2.imwrite(str(path), gradient * np.ones((1, 1, 3), np.uint8))
    data = settings(root, **{"random_crop": ((0.1, 0.3), (0.75, 1.33)), **changes})
    config = Config(data=data, evaluate=EvaluateSettings(batch_size=8))
    expected = load(settings(root), seed=0).train
    source, mesh = load(config.data, seed=0).train, make_mesh(1)
    found = [batch["image"][0] for batch in batches_once(config, source, mesh, reading(config))()]
    np.testing.assert_array_equal(np.concatenate(found)[: len(expected)], [expected.read(i) for i in range(len(expected))])


def test_random_crops_are_a_function_of_the_place_and_of_nothing_else(root):
    source = load(settings(root, random_crop=((0.1, 1.0), (0.75, 1.33))), seed=0).train
    for i, (name, color) in enumerate(COLORS.items()):  # a gradient
        image = np.linspace(0, 255, 40 * 50).reshape(40, 50, 1).astype(np.uint8) * np.ones((1, 1, 3), np.uint8)
        cv2.imwrite(source.name(i), image)
        del name, color
    order = Order(len(source), 0)
    by_threads, _ = batches(source, "auto", order, threads=4)
    without, _ = batches(source, "auto", order, threads=0)
    np.testing.assert_array_equal(by_threads["image"], without["image"])
    crops = {source.read(0, training_view(source, place)).tobytes() for place in range(10)}
    assert len(crops) > 5
    assert source.read(0, training_view(source, 3)).tobytes() == source.read(0, training_view(source, 3)).tobytes()
    with pytest.raises(UserError, match=r"data.resident: data.random_crop re-decodes every image"):
        make_reader(source, make_mesh(1), Reading("on"))


MISTAKES = {
    "empty class": (lambda root: (root / "violet").mkdir(), {}, "violet: no images"),
    "one class": (lambda root: [(root / n).rename(root / "blue" / n) for n in ("red", "green")], {}, "contains 1 folder;"),
    "lonely image": (lambda root: write_image(root / "violet" / "1.png", (9, 9, 9)), {}, "too few images to split, 1 of"),
    "no root": (lambda root: None, {"root": "/nowhere/flwers"}, 'no file or folder "/nowhere/flwers"'),
    "no user": (lambda root: None, {"root": "~nobody_of_this_name/a"}, 'no file or folder "~nobody_of_this_name/a"'),
    "a file": (lambda root: None, {"root": __file__}, "is a file; data.name=folder expects"),
    "no group": (lambda root: None, {"group": "patient"}, "does not match 'blue/track0_0.png' and 29 other paths"),
    "bad group": (lambda root: None, {"group": "("}, "not a regular expression"),
    "bad fold": (lambda root: None, {"fold": "6/5"}, "expected a fold such as .*, got '6/5'"),
    "bad crop": (lambda root: None, {"random_crop": (0.1, 1.0)}, "expected ranges of area and aspect ratio"),
    "no test": (lambda root: None, {"test": 0.0}, "data.test: folder has no test set; set data.test to"),
    "new class": (lambda root: [write_image(root / "s" / "train" / n / "1.png", (9, 9, 9)) for n in "ab"]
                  and write_image(root / "s" / "test" / "c" / "1.png", (9, 9, 9)), {"root": "s"}, 'the class "c" is not among'),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_reported_in_one_line(root, name):
    make, changes, message = MISTAKES[name]
    make(root)
    if changes.get("root") == "s":
        changes = {"root": str(root / "s")}
    with pytest.raises(UserError, match=message) as mistake:
        load(settings(**{"root": root} | changes), seed=0)
    assert "\n" not in str(mistake.value)

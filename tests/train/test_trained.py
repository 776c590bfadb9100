"""Trained networks: the choice of their checkpoint, and their evaluation on other data."""

import dataclasses
import shutil
import types

import cv2
import flax.linen as nn
import numpy as np
import pytest
from common.small_runs import quiet, small_config

from jaxcnn import train
from jaxcnn.config import Config
from jaxcnn.data import DataSettings, Preprocessing, load
from jaxcnn.errors import UserError
from jaxcnn.evaluate.settings import EvaluateSettings
from jaxcnn.tasks.classification import Classification
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.fingerprint import fingerprint
from jaxcnn.train.trained import selected_variables

# ── Other data ──────────────────────────────────────────────────────────────────────────────────────────────────────

COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


class Colors(nn.Module):
    """A network whose logits are the means of blue, green and red, which classifies images of one color correctly."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.mean(axis=(1, 2))[:, ::-1]


def fill(root, counts, size=(8, 8)):
    """Writes images per class in its color, {"blue": 3}, or in another color as wrong labels, {"blue": (3, "red")}."""
    for name, count in counts.items():
        count, color = count if isinstance(count, tuple) else (count, name)
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            cv2.imwrite(str(root / name / f"{i}.png"), np.full((*size, 3), COLORS[color][::-1], np.uint8))
    return root


@pytest.fixture
def trained(tmp_path):
    """The network as after training on a folder of 10 images per class without a test set."""
    root = fill(tmp_path / "training", dict.fromkeys(COLORS, 10))
    config = Config(data=DataSettings("folder", str(root), image_size=8, validation=0.0, resident="on"))
    preprocessing = Preprocessing((8, 8, 3), (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)
    trained_on = fingerprint(load(config.data, config.seed))
    task = Classification(preprocessing, Colors(), tuple(COLORS), "multiclass")
    return train.Trained(task, {}, tuple(COLORS), config, 7, make_mesh(1), trained_on)


def on(trained, name, root=""):
    """Returns the same network as if trained on another data set."""
    data = dataclasses.replace(trained.config.data, name=name, root=root)
    return dataclasses.replace(trained, config=dataclasses.replace(trained.config, data=data))


def cut_off(trained):
    """Returns the size of the test set that was split off for training."""
    return trained.data["test"]["examples"]


def measured(trained, root, split="test"):
    """Returns (number of examples, number of correct ones, printed lines)."""
    said = []
    metrics = train.evaluate(trained, split, data_root=str(root), say=said.append)
    examples = metrics[f"{split}_examples"]
    return examples, round(metrics[f"{split}_accuracy"] * examples), said


def test_other_data_without_splits_are_evaluated_completely(trained, tmp_path):
    assert train.evaluate(trained)["test_examples"] == cut_off(trained)
    other = fill(tmp_path / "other", {"blue": 7, "green": (4, "red"), "red": 11}, size=(9, 13))
    assert measured(trained, other) == (22, 18, [f"{other}: different data than in training; evaluating 22 images"])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_split_of_that_name_is_evaluated_if_there_are_splits(trained, tmp_path, split):
    fill(tmp_path / "other" / split, {"blue": 2, "red": 3})
    assert measured(trained, tmp_path / "other", split)[:2] == (5, 5)
    fill(tmp_path / "other" / "Train", dict.fromkeys(COLORS, 4))
    assert measured(trained, tmp_path / "other", split)[:2] == (5, 5)
    assert measured(trained, tmp_path / "other", "train")[:2] == (12, 12)


@pytest.mark.parametrize("name", COLORS)
def test_fewer_classes_are_matched_by_name(trained, tmp_path, name):
    assert measured(trained, fill(tmp_path / "other", {name: 5}))[:2] == (5, 5)


def test_moved_data_keep_the_splits_that_they_had_in_training(trained, tmp_path):
    said = [f"{tmp_path / 'copy'}: the training data, with the same splits"]
    shutil.copytree(tmp_path / "training", tmp_path / "copy")
    assert measured(trained, tmp_path / "copy") == (cut_off(trained), cut_off(trained), said)
    shutil.rmtree(tmp_path / "training")
    assert measured(trained, tmp_path / "copy") == (cut_off(trained), cut_off(trained), said)
    fill(tmp_path / "copy", {"red": 20})
    assert measured(trained, tmp_path / "copy")[0] == 40  # other data


def test_data_that_have_changed_keep_their_splits_with_a_warning(trained, tmp_path):
    fill(tmp_path / "training", {"red": 20})
    examples, _, said = measured(trained, tmp_path / "training" / ".." / "training")
    assert cut_off(trained) <= examples < 20
    assert any(line.startswith("warning: the data differ from those in training (train: ") for line in said)


def table(path, rows, header="path,label"):
    path.write_text("\n".join([header, *rows]))
    return path


def test_other_tables_are_evaluated(trained, tmp_path):
    fill(tmp_path / "other", dict.fromkeys(COLORS, 4))
    rows = [f"training/{name}/{i}.png,{name}" for name in COLORS for i in range(10)]
    trained = on(trained, "csv", str(table(tmp_path / "training.csv", rows)))
    trained = dataclasses.replace(trained, data=fingerprint(load(trained.config.data, 0)))
    assert measured(trained, table(tmp_path / "copy.csv", rows))[0] == len(load(trained.config.data, 0).test)
    rows = [f"other/{name}/{i}.png,{name}" for name in ("green", "red") for i in range(4)]
    assert measured(trained, table(tmp_path / "other.csv", rows))[:2] == (8, 8)
    parts = [f"{row},{'test' if i > 4 else 'val'}" for i, row in enumerate(rows)]
    assert measured(trained, table(tmp_path / "parts.csv", parts, "path,label,split"))[:2] == (3, 3)
    with pytest.raises(UserError, match=r"no row has the split train$"):
        measured(trained, tmp_path / "parts.csv", "train")
    with pytest.raises(UserError, match=r'line 2: the network has no class "gren" \(did you mean "green"'):
        measured(trained, table(tmp_path / "wrong.csv", ["other/green/0.png,gren"]))
    with pytest.raises(UserError, match=r"line 3: 'other/red/0.png' is listed on line 2 too"):
        measured(trained, table(tmp_path / "twice.csv", ["other/red/0.png,red"] * 2))


@pytest.mark.parametrize("kind", ["names", "numbers", "class_names"])
def test_other_arrays_are_evaluated(trained, tmp_path, kind):
    colors = np.array(list(COLORS.values()), np.uint8)
    numbers = np.array([2, 0, 2, 2, 0])  # class indices of the network; no "green"
    images = np.tile(colors[numbers][:, None, None], (1, 8, 8, 1))
    own = np.tile(colors[np.arange(30) % 3][:, None, None], (1, 8, 8, 1))
    np.savez(tmp_path / "training.npz", images=own, labels=np.arange(30) % 3)
    trained = on(trained, "arrays", str(tmp_path / "training.npz"))
    if kind == "numbers":
        trained = dataclasses.replace(trained, class_names=("0", "1", "2"))
    labels = {
        "names": {"y": np.array(list(COLORS))[numbers]},
        "numbers": {"y": numbers},
        "class_names": {"y": 1 - numbers // 2, "class_names": np.array(["red", "blue"])},
    }[kind]
    np.savez(tmp_path / "other.npz", x=images, **labels)
    assert measured(trained, tmp_path / "other.npz")[:2] == (5, 5)
    np.savez(tmp_path / "test.npz", x_test=images, y_test=labels.pop("y"), **labels)
    assert measured(trained, tmp_path / "test.npz")[:2] == (5, 5)
    with pytest.raises(UserError, match=r"no arrays of the split validation$"):
        measured(trained, tmp_path / "test.npz", "validation")
    np.savez(tmp_path / "wrong.npz", x=images, y=np.array(["rde"] * 5))
    with pytest.raises(UserError, match=r'wrong.npz: y: the network has no class "rde"'):
        measured(trained, tmp_path / "wrong.npz")


MISTAKES = {
    "another class": ({"blue": 1, "orange": (1, "red")}, 'orange: the network has no class "orange"'),
    "parts without it": ({"val/blue": (1, "blue"), "train/blue": (1, "blue")}, r"split test, found 0 \(train, val\)"),
    "two for it": ({"Test/blue": (1, "blue"), "test/blue": (1, "blue")}, r"split test, found 2 \(Test, test\)"),
    "no labels": ({".": (2, "blue")}, r"no class folders, so its images have no labels; predict.py --csv=FILE classifies"),
    "no folder": ({}, 'no file or folder ".*other"'),
    "no images": ({"blue": 0}, "its class folders contain no images"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_other_data_that_do_not_fit_are_refused_in_one_line(trained, tmp_path, name):
    counts, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as mistake:
        measured(trained, fill(tmp_path / "other", counts))
    assert "\n" not in str(mistake.value)


def test_data_root_of_data_without_files_is_refused(trained, tmp_path):
    trained = on(trained, "digits")
    with pytest.raises(UserError, match=r"^--data_root: not applicable to digits, .* part of scikit-learn"):
        measured(trained, tmp_path)


# ── Checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with checkpoints of steps 10, 20 and 30. Step 10 is the best, because the network does not learn."""
    workdir = tmp_path_factory.mktemp("run")
    changes = {"total": "30steps", "evaluate.every": "10steps", "checkpoint.every": "10steps", "data.resident": "on"}
    train.run(small_config(**changes, **{"optimizer.learning_rate": 0.0, "ema.decay": 0.0}), workdir, console=quiet()[0])
    return workdir


def damaged(workdir, step, item):
    """Truncates every file of one item of a checkpoint to half its size."""
    for path in (workdir / "checkpoints" / str(step) / item).rglob("*"):
        if path.is_file() and path.stat().st_size:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("step", "item", "message"),
    [
        (10, "variables", r"checkpoint 10 is damaged .*; choose another step with --step=N: 20, 30$"),
        (
            30,
            "meta",
            r"checkpoint 30 is damaged .*, so the selected step is unknown; choose another step with --step=N: 10, 20$",
        ),
    ],
)
def test_unreadable_selected_checkpoint_is_refused_and_another_is_loaded_only_on_request(
    finished, tmp_path, step, item, message
):
    assert train.load_trained(finished).step == 10
    shutil.copytree(finished, tmp_path / "run")
    damaged(tmp_path / "run", step, item)
    warnings = []
    with pytest.raises(UserError, match=message) as mistake:
        train.load_trained(tmp_path / "run", warn=warnings.append)
    assert "\n" not in str(mistake.value)
    assert not warnings
    trained = train.load_trained(tmp_path / "run", step=20, warn=warnings.append)
    assert trained.step == 20
    assert [line.startswith("warning: checkpoint 30 is damaged") for line in warnings] == [True] * (step == 30)
    with pytest.raises(UserError, match=r"there is no checkpoint of step 15; choose another step with --step=N: 10, 20, 30$"):
        train.load_trained(tmp_path / "run", step=15)


def test_damage_elsewhere_changes_nothing(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    damaged(tmp_path / "run", 20, "variables")
    damaged(tmp_path / "run", 30, "variables")
    assert train.load_trained(tmp_path / "run").step == 10
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("select", "unreadable", "taken"), [("best", 10, 30), ("last", 30, 20), ("best", 20, 10)])
def test_training_that_tests_another_step_than_the_selected_one_warns(capsys, select, unreadable, taken):
    checkpoints = types.SimpleNamespace(
        steps=lambda: [10, 20, 30],
        excluded=(),
        restore_variables=lambda step, template: None if step == unreadable else {"of": step},
    )
    config = Config(evaluate=EvaluateSettings(select=select))
    assert selected_variables(checkpoints, config, {}, 10) == (taken, {"of": taken})
    said = f"warning: testing step {taken}, because the selected step {unreadable} can't be read\n"
    assert capsys.readouterr() == ("", "" if unreadable == 20 else said)

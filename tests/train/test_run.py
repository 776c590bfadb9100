"""The files that a run writes, and the errors that it reports."""

import builtins
import hashlib
import json
import re
import shutil

import cv2
import jax
import numpy as np
import pytest
from common import child_processes
from common.small_runs import quiet, small_config
from common.tensorboard_rows import scalars
from rich.console import Console

from jaxcnn import data, train
from jaxcnn.config import from_json, validate
from jaxcnn.errors import RunFailed, UserError
from jaxcnn.layers import cpu_convolution
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history

SUMMARY = {
    "test_accuracy", "test_loss", "test_examples", "validation_accuracy", "steps", "epochs", "wall_seconds",
    "compile_seconds", "images_per_second", "params", "params_sha256", "seed", "versions", "device", "command",
    "cpu_convolution",
}  # fmt: skip


def run(workdir, **changes):
    """Returns (summary, printed text) of a small run."""
    console, text = quiet()
    return train.run(small_config(**changes), workdir, console=console), text()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(workdir, summary, printed text) of a finished run."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, *run(workdir, **{"checkpoint.every": "20steps"})


def test_run_writes_all_files(finished):
    workdir, summary, said = finished
    assert {path.name for path in workdir.iterdir()} >= {
        "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "summary.json", "report.html",
    }  # fmt: skip
    assert summary.keys() >= SUMMARY
    assert json.loads((workdir / "summary.json").read_text()) == summary
    assert (summary["steps"], summary["test_examples"], summary["params"]) == (40, 360, 61_706)
    assert summary["validation_accuracy"] > 0.3, "it did not learn"
    assert from_json((workdir / "config.json").read_text()) == validate(small_config(**{"checkpoint.every": "20steps"}))
    assert "step     40" in said
    assert summary["cpu_convolution"] == cpu_convolution()
    assert f"convolutions by {cpu_convolution()}" in said.splitlines()[0]


def test_rows_are_written_at_their_intervals_and_to_tensorboard(finished):
    rows = read_history(finished[0])
    assert [row["step"] for row in rows if "train_loss" in row] == [10, 20, 30, 40]
    assert [row["step"] for row in rows if "validation_loss" in row] == [15, 30, 40]
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert [row["epoch"] for row in rows if row["step"] == 40] == [40 * 64 / 1293] * 2
    losses = {row["step"]: row["train_loss"] for row in rows if "train_loss" in row}
    assert scalars(finished[0] / "tensorboard")["train/loss"] == pytest.approx(losses)


def test_params_sha256_is_over_the_last_parameters_in_path_order(finished):
    workdir, summary, _ = finished
    experiment = prepare(from_json((workdir / "config.json").read_text()))
    checkpoints = Checkpoints(workdir / "checkpoints")
    state, meta = checkpoints.restore_latest(experiment.state_template())
    checkpoints.close()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in jax.tree.leaves_with_path(state.variables)
    }
    sha = hashlib.sha256()
    for path in sorted(leaves):
        sha.update(path.encode() + np.asarray(leaves[path]).tobytes())
    assert sha.hexdigest() == summary["params_sha256"]
    assert meta["class_names"] == list("0123456789")
    assert meta["model"]["name"] == "lenet5_relu"


def test_evaluation_of_the_folder_gives_the_metrics_of_the_end_of_training(finished):
    workdir, summary, _ = finished
    trained = train.load_trained(workdir)
    metrics = train.evaluate(trained)
    assert metrics == {name: summary[name] for name in metrics}
    validation = train.evaluate(trained, "validation")
    tested = next(row for row in read_history(workdir) if row["step"] == trained.step and "validation_loss" in row)
    assert validation["validation_accuracy"] == tested["validation_ema_accuracy"] == summary["validation_accuracy"]


def test_best_step_is_the_first_with_the_best_validation_accuracy(finished):
    rows = [row for row in read_history(finished[0]) if "validation_ema_accuracy" in row]
    best = max(row["validation_ema_accuracy"] for row in rows)
    assert finished[1]["tested_step"] == next(row["step"] for row in rows if row["validation_ema_accuracy"] == best)


def test_finished_run_is_not_repeated(finished):
    again, said = run(finished[0], **{"checkpoint.every": "20steps"})
    assert again == finished[1]
    assert "nothing to do" in said


def test_folder_of_another_config_is_refused_with_what_differs(finished):
    with pytest.raises(UserError, match=r"a different config \(seed: 0 -> 1; optimizer.learning_rate: 0.02 -> 0.1\)"):
        run(finished[0], seed=1, **{"optimizer.learning_rate": 0.1})


@pytest.mark.slow
def test_folder_without_a_checkpoint_accepts_another_config(tmp_path):
    with pytest.raises(RunFailed, match="no checkpoint was due yet"):
        run(tmp_path, **{"optimizer.learning_rate": 1e9, "schedule.warmup": "0steps", "checkpoint.every": "40steps"})
    summary, _ = run(tmp_path, total="2steps", **{"schedule.warmup": "0steps", "checkpoint.every": "40steps"})
    assert [row["step"] for row in read_history(tmp_path)] == [2, 2]
    assert summary["steps"] == 2


def test_run_resumes_before_a_damaged_checkpoint_with_the_same_result(finished, tmp_path):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    (workdir / "summary.json").unlink()
    for path in (workdir / "checkpoints" / "40" / "training").rglob("manifest.ocdbt"):
        path.write_bytes(path.read_bytes()[:50])
    summary, said = run(workdir, **{"checkpoint.every": "20steps"})
    assert "warning: checkpoint 40 is damaged (training: " in said
    assert "resumed at step " in said
    for name in ("params_sha256", "test_loss", "tested_step", "validation_accuracy"):
        assert summary[name] == finished[1][name], name


def test_folder_in_use_is_refused(tmp_path):
    from jaxcnn.train.workdir import locked

    with locked(tmp_path), pytest.raises(UserError, match=r"in use by another run \(process"):
        run(tmp_path)


@pytest.mark.process
def test_training_is_imported_without_fcntl():
    """Windows does not have this module."""
    code = "import sys; sys.modules['fcntl'] = None; import jaxcnn.train.training, jaxcnn.command; print('imported')"
    assert child_processes.run("-c", code)[:2] == (0, "imported\n")


def test_refused_settings_leave_the_folder_usable(tmp_path):
    for changes in ({"data.name": "digitz"}, {"model.name": "lenet6"}, {"optimizer.freeze": ("nothing",)}, {"batch_size": 63}):
        with pytest.raises(UserError):
            run(tmp_path, devices=8, **changes)
        assert not (tmp_path / "config.json").exists()
    with pytest.raises(UserError):
        run(tmp_path / "new", **{"model.name": "lenet6"})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.image_size": 0}, "8×8 is too small for lenet5_relu: at least 32×32"),
        ({"model.arguments": {"stm": "small"}}, 'lenet5_relu: no argument "stm"'),
        ({"model.arguments": {"num_classes": 3}}, "model.arguments.num_classes: can't be set here"),
        ({"early_stop.patience": 2, "data.validation": 0.0}, "early_stop.patience: early stopping needs a validation set"),
        ({"total": "0steps"}, "total: expected at least one step, got 0steps"),
        ({"loss.class_weights": (1.0, 2.0)}, "loss.class_weights: 2 weights do not fit 10 classes"),
        ({"data.augment": ("vertical_flop",)}, "data.augment: no operation 'vertical_flop' (did you mean \"vertical_flip\"?)"),
        ({"model.pretrained": "nowhere.npz"}, "no weights of another library are known"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(tmp_path, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        run(tmp_path, **changes)


def test_batch_that_devices_cannot_share_is_refused_by_name():
    with pytest.raises(UserError, match="batch_size: 60 can't be divided evenly by 8 devices"):
        prepare(validate(small_config(batch_size=60, devices=8)))
    with pytest.raises(UserError, match="devices: 9 requested, but JAX finds only 8"):
        prepare(validate(small_config(devices=9)))


@pytest.mark.parametrize(("mixer", "images", "repeats"), [("mixup", 2, 9), ("mosaic", 4, 5)])
def test_batch_without_enough_images_to_mix_is_refused_by_name(mixer, images, repeats):
    changes = {"batch_size": 16, "data.repeats": repeats, "data.augment": (mixer,)}
    message = rf"^batch_size: data.augment mixes {images} different images, .*; expected at least {images * repeats}, got 16$"
    with pytest.raises(UserError, match=message):
        prepare(validate(small_config(**changes)))


def test_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(RunFailed) as failure:
        run(tmp_path, **{"optimizer.learning_rate": 1e5, "schedule.warmup": "30steps", "checkpoint.every": "2steps"})
    message = str(failure.value)
    assert failure.value.exit_code == 1
    assert "Try a lower optimizer.learning_rate" in message
    step = int(message.split(":")[0].removeprefix("step "))
    kept = Checkpoints(tmp_path / "checkpoints")
    assert kept.steps()[-1] < step
    assert f"the checkpoint of step {kept.steps()[-1]} is kept" in message
    kept.close()


@pytest.mark.slow
def test_training_stops_early_on_a_plateau(tmp_path):
    summary, said = run(tmp_path, **{
        "optimizer.learning_rate": 0.0, "ema.decay": 0.0, "evaluate.every": "3steps", "early_stop.patience": 2,
    })  # fmt: skip
    assert summary["steps"] == 9
    assert "stopped early" in said
    assert summary["tested_step"] == 3


def test_resident_data_train_to_the_same_bits_as_streamed(tmp_path, finished):
    summary, _ = run(tmp_path, **{"data.resident": "on", "checkpoint.every": "20steps"})
    assert summary["params_sha256"] == finished[1]["params_sha256"]


@pytest.mark.slow
def test_images_of_five_channels_are_trained_and_reported(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 5), np.uint8)
    labels = {"train_labels": np.arange(60) % 3, "test_labels": np.arange(30) % 3}
    np.savez(tmp_path / "five.npz", train_images=images, test_images=images[:30], **labels)
    settings = {"data.name": "arrays", "data.root": str(tmp_path / "five.npz"), "total": "8steps", "batch_size": 16}
    summary, _ = run(tmp_path / "run", **settings)
    assert summary["steps"] == 8
    assert "<svg" in (tmp_path / "run" / "report.html").read_text()
    assert train.evaluate(train.load_trained(tmp_path / "run"))["test_loss"] == summary["test_loss"]
    with pytest.raises(UserError, match=r"data.augment: operations that change colors .* but these have 5"):
        run(tmp_path / "other", **settings, **{"data.augment": ("rand_augment",)})


@pytest.mark.slow
def test_network_for_rgb_trained_on_gray_arrays_predicts_gray_and_color_files(tmp_path):
    run(tmp_path, **{"data.channels": 3, "total": "8steps"})
    trained = train.load_trained(tmp_path)
    assert trained.preprocessing.image_shape == (8, 8, 3)
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "rgb.png"), np.repeat(grey[..., None], 3, axis=2))
    (one, other), unreadable = train.predict_files(trained, [tmp_path / "grey.png", tmp_path / "rgb.png"])
    assert not unreadable
    assert one["classes"] == other["classes"]


@pytest.mark.slow
def test_run_on_eight_devices_has_the_loss_curve_of_one(tmp_path):
    changes = {"total": "10steps", "log.every": "1steps", "evaluate.every": "5steps"}
    one, eight = (run(tmp_path / str(devices), devices=devices, **changes)[0] for devices in (1, 8))
    for row, expected in zip(read_history(tmp_path / "8"), read_history(tmp_path / "1"), strict=True):
        for name in [name for name in expected if name.endswith("loss")]:
            # another order of summation: a difference of 2e-7 in seven steps; then rounding changes signs before a ReLU,
            # which gives 1.4e-5 (as does half a unit in the last place of the parameters, with oneDNN and XLA on one device)
            slack = 1e-5 if row["step"] <= 7 else 1e-4
            assert row[name] == pytest.approx(expected[name], abs=slack), (row["step"], name)
    assert one["test_examples"] == eight["test_examples"] == 360
    assert eight["test_loss"] == pytest.approx(one["test_loss"], abs=1e-4)


@pytest.mark.slow
def test_several_steps_per_call_give_the_same_rows(tmp_path, finished):
    run(tmp_path, steps_per_dispatch=4, **{"checkpoint.every": "20steps"})
    for row, expected in zip(read_history(tmp_path), read_history(finished[0]), strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {"images_per_second", "data_wait_share"}:
            slack = {"rel": 1e-3} if "accuracy" not in name else {"abs": 0.01}  # the steps of a call are compiled together
            assert row[name] == pytest.approx(expected[name], **slack), (row["step"], name)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_two_classes_and_several_labels_per_image_are_trained_and_reported(tmp_path, task):
    dataset = data.load(validate(small_config()).data, seed=0)
    arrays = {}
    for part, source in (("train", dataset.train), ("test", dataset.test)):
        digits = source.labels
        arrays[f"{part}_images"] = np.stack([source.read(i) for i in range(len(source))])
        arrays[f"{part}_labels"] = digits // 5 if task == "binary" else np.stack([digits % 2, digits // 5], axis=1)
    np.savez(tmp_path / "digits.npz", **arrays, class_names=["small", "large"] if task == "binary" else ["odd", "large"])
    summary, _ = run(tmp_path / "run", **{
        "data.name": "arrays", "data.root": str(tmp_path / "digits.npz"), "loss.name": "sigmoid_binary_cross_entropy",
        "total": "60steps", "evaluate.every": "60steps", "optimizer.name": "adam", "optimizer.learning_rate": 3e-3,
        "ema.decay": 0.0,
    })  # fmt: skip
    assert summary["test_accuracy"] > 0.7
    assert summary["params"] == 61_706 - 85 * (9 if task == "binary" else 8)  # one output for the binary task, otherwise two
    assert train.evaluate(train.load_trained(tmp_path / "run"))["test_loss"] == summary["test_loss"]


def test_lines_are_plain_text_in_a_notebook(tmp_path, monkeypatch, capsys):
    notebook = type("ZMQInteractiveShell", (), {})  # Rich asks for this name
    monkeypatch.setattr(builtins, "get_ipython", notebook, raising=False)
    assert Console().is_jupyter
    run = train.Run(small_config(), tmp_path)
    run.say("step 1")
    assert not run.console.is_terminal
    assert capsys.readouterr().out == "step 1\n"

"""Tests of training, resuming and evaluation for tasks with several phases, additional collections, or a frozen teacher."""

import dataclasses
import json
import shutil
import signal
import time

import cv2
import jax
import numpy as np
import pytest
from common import toy_tasks
from common.child_processes import experiment, finish
from common.small_runs import TIMES, quiet, small_config

from jaxcnn import train
from jaxcnn.config import changed, validate
from jaxcnn.errors import UserError
from jaxcnn.train.clock import Clock
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history
from jaxcnn.train.steps import Steps

SEGMENTATION = {
    "losses": (("cross_entropy", 1.0), ("dice", 0.5)),
    "class_weights": "median_frequency",
    "scales": (1.0, 0.5),
    "flip": True,
}
TASKS = {
    "Gan": {},
    "MovingTarget": {},
    "Distillation": {"temperature": 2.0},
    "Pixels": {},
    "OneBox": {},
    "segmentation": SEGMENTATION,
}
OF_SCENES = ("Pixels", "OneBox", "segmentation")
UNET = {"width": 2, "depth": 1, "norm": True, "padding": "same", "drop_rate": 0.1}
MOVES = ("horizontal_flip", ("random_crop", {"pad": 2}), ("affine", {"degrees": 10.0, "scale": (0.9, 1.2)}))
MIXES = ("cutmix", "mosaic", "copy_paste")


def config_of(task, scenes="", **changes):
    """Returns a config of 20 steps whose evaluations, checkpoints and log rows do not coincide.

    `scenes` is a file with maps and boxes.
    """
    if task in OF_SCENES:
        changes = {
            "data.name": "arrays",
            "data.root": str(scenes),
            "data.augment": MOVES if task == "OneBox" else (*MOVES, *MIXES),
            "data.image_size": (24, 32),
        } | changes
    every = {"total": "20steps", "evaluate.every": "9steps", "checkpoint.every": "4steps", "log.every": "5steps"}
    config = small_config(
        **{"model.name": "lenet5", "data.image_size": 0, "batch_size": 32, "schedule.warmup": "0steps", **every, **changes}
    )
    config.task.name = task if task == "segmentation" else f"common.toy_tasks:{task}"
    config.task.arguments.update(TASKS[task])
    if task == "segmentation":
        config.model.name = "unet"
        config.model.arguments.update(UNET)
    return config


def outcome(workdir):
    """Returns the metrics and the log rows of a run without times."""
    summary = json.loads((workdir / "summary.json").read_text())
    metrics = {name: value for name, value in summary.items() if name.startswith(("test_", "tested", "params"))}
    del metrics["test_seconds"]
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in read_history(workdir)]
    return metrics, rows


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Returns the file of a data set with maps and boxes."""
    toy_tasks.write_scenes(path := tmp_path_factory.mktemp("scenes") / "scenes.npz")
    return path


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory, scenes):
    """Returns (task, folder, summary) of an uninterrupted run in this process."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return request.param, workdir, train.run(config_of(request.param, scenes), workdir, console=quiet()[0])


def start(task, workdir, scenes):
    """Starts the same run in a separate process."""
    file, call = workdir.parent / f"{task}.py", f"config_of({task!r}, {str(scenes)!r})"
    file.write_text(f"from tasks.test_toy_runs import config_of\n\n\ndef get_config():\n    return {call}\n")
    return experiment("train.py", f"--config={file}", f"--workdir={workdir}", cache=workdir.parent / "xla")


@pytest.mark.slow
@pytest.mark.process
def test_run_that_was_killed_ends_with_the_same_bits(run, scenes, tmp_path):
    task, uninterrupted, _ = run
    workdir = tmp_path / "run"
    for checkpoint in (4, 12):
        process = start(task, workdir, scenes)
        deadline = time.monotonic() + 120
        while not (workdir / "checkpoints" / str(checkpoint)).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, out, err = finish(start(task, workdir, scenes))
    assert code == 0, out + err
    assert "resumed at step" in out or "nothing to do" in out
    (metrics, rows), (expected, expected_rows) = outcome(workdir), outcome(uninterrupted)
    assert metrics == expected
    np.testing.assert_equal(rows, expected_rows)  # NaN equals NaN


@pytest.mark.slow
def test_resumed_from_any_checkpoint_in_this_process_ends_with_the_same_bits(run, scenes, tmp_path):
    task, uninterrupted, _ = run
    workdir = shutil.copytree(uninterrupted, tmp_path / "run")
    latest = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())
    shutil.rmtree(workdir / "checkpoints" / str(latest))
    (workdir / "summary.json").unlink()
    train.run(config_of(task, scenes), workdir, console=quiet()[0])
    (metrics, rows), (expected, expected_rows) = outcome(workdir), outcome(uninterrupted)
    assert metrics == expected
    np.testing.assert_equal(rows, expected_rows)


@pytest.mark.slow
def test_metrics_are_of_exactly_the_examples_for_any_batch_size(run, scenes, tmp_path):
    task, workdir, summary = run
    trained = train.load_trained(workdir)
    assert summary["test_examples"] == (40 if task in OF_SCENES else 360)
    for size in (32, 7):
        config = changed(trained.config, {"evaluate.batch_size": size})
        for name, value in train.evaluate(dataclasses.replace(trained, config=config)).items():
            assert summary[name] == pytest.approx(value, rel=1e-6), (size, name)


@pytest.mark.slow
def test_prediction_describes_each_image(run, scenes, tmp_path):
    _, workdir, _ = run
    cv2.imwrite(str(tmp_path / "a.png"), np.full((50, 40), 200, np.uint8))
    trained = train.load_trained(workdir)
    (prediction,) = train.predict_each(trained, [tmp_path / "a.png"])
    drawn = trained.task.draw(prediction.outputs, prediction.photo)
    assert tuple(drawn) == trained.task.drawings
    assert all(np.asarray(drawing).shape[:2] == (50, 40) for drawing in drawn.values())
    (result,), unreadable = train.predict_files(trained, [tmp_path / "a.png"])
    assert result["file"].endswith("a.png")
    assert all(np.isfinite(value).all() for name, value in result.items() if name not in ("file", "classes"))
    assert not unreadable


@pytest.mark.slow
def test_first_steps_on_eight_devices_are_those_of_one(run, scenes, tmp_path):
    task = run[0]
    train.run(config_of(task, scenes, devices=8, total="3steps", **{"log.every": "1steps"}), tmp_path / "8", console=quiet()[0])
    train.run(config_of(task, scenes, total="3steps", **{"log.every": "1steps"}), tmp_path / "1", console=quiet()[0])
    one, eight = ([row for row in read_history(tmp_path / name) if "gradient_norm" in row] for name in ("1", "8"))
    for row, other in zip(one, eight, strict=True):
        for name in row.keys() - TIMES:
            np.testing.assert_allclose(other[name], row[name], rtol=3e-3, err_msg=name)


def test_metrics_of_a_phase_that_is_skipped_are_not_averaged(tmp_path):
    """The generator is trained in every other step. Its row has the mean over these steps only."""
    config = config_of("Gan", total="3steps", **{"log.every": "1steps", "evaluate.every": "3steps"})
    train.run(config, tmp_path, console=quiet()[0])
    rows = [row for row in read_history(tmp_path) if "gradient_norm" in row]
    assert [bool(np.isfinite(row.get("train_generator_loss", np.nan))) for row in rows] == [False, True, False]
    assert all(np.isfinite(row["gradient_norm"]) for row in rows)


def test_frozen_collections_are_in_no_checkpoint(tmp_path):
    workdir = tmp_path / "run"
    train.run(config_of("Distillation", total="2steps"), workdir, console=quiet()[0])
    meta = json.loads((workdir / "checkpoints" / "2" / "meta" / "metadata").read_text())
    assert not any(path.startswith("teacher") for path in meta["shapes"]["variables"])
    assert "teacher" in train.load_trained(workdir).variables


def test_freezing_batch_norm_keeps_only_its_own_statistics():
    config = validate(config_of("Gan", total="2steps", **{"optimizer.freeze": ("^discriminator/norm/",)}))
    gan = prepare(config)
    state = gan.initial_state()
    before = jax.device_get(state.variables["batch_stats"])
    *_, last = Steps(gan, 0, Clock())(state)
    after = jax.device_get(last.state.variables["batch_stats"])
    np.testing.assert_array_equal(after["discriminator"]["norm"]["mean"], before["discriminator"]["norm"]["mean"])
    assert (after["generator"]["norm"]["mean"] != before["generator"]["norm"]["mean"]).any()


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("Gan", {"optimizer.accumulate": 2}, None),
        ("MovingTarget", {"optimizer.accumulate": 2}, r"^optimizer.accumulate: the loss of common.toy_tasks:MovingTarget "),
        ("Gan", {"model.name": "resnet18"}, r"^model.name: has no effect, as the task common.toy_tasks:Gan defines its own"),
        (
            "Gan",
            {"evaluate.metric": "accuracy"},
            r"^evaluate.metric: the task can't select checkpoints by 'accuracy'; available: distance$",
        ),
        ("Gan", {"model.pretrained": "x.npz"}, r"^model.pretrained: has no effect"),
    ],
)
def test_settings_that_a_task_cannot_use_are_refused(task, changes, message):
    config = validate(config_of(task, **changes))
    if message is None:
        assert prepare(config).update.accumulate == 2
        return
    with pytest.raises(UserError, match=message):
        prepare(config)


def test_mixing_that_is_not_defined_for_a_target_is_refused_and_a_missing_field_is_named(scenes):
    for task, mixer, targets in (("Pixels", "mixup", "maps"), ("OneBox", "cutmix", "boxes")):
        with pytest.raises(UserError, match=rf"^data.augment: {mixer} mixes images, which is not defined for {targets}; leave"):
            prepare(validate(config_of(task, scenes, **{"data.augment": (mixer,)})))
    with pytest.raises(UserError, match=r"^data.augment: mosaic needs maps, as in semantic segmentation; leave it out$"):
        prepare(validate(small_config(**{"data.augment": ("mosaic",)})))
    config = config_of("Pixels", **{"data.name": "digits", "data.augment": (), "data.image_size": 0})
    with pytest.raises(UserError, match=r"^task.name: common.toy_tasks:Pixels needs the field 'map', but digits has label$"):
        prepare(validate(config))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("clasification", {}, r"^task.name: no task 'clasification' \(did you mean .classification.\?\); available: classif"),
        ("common.toy_tasks:Distillation", {}, r"^task.arguments.temperature: .* needs this argument; set --config.task.arg"),
        (
            "common.toy_tasks:Gan",
            {"latent": 3},
            r'^task.arguments.latent: .* has no such argument \(did you mean "latents"',
        ),
        ("common.toy_tasks:Gan", {"latents": "many"}, r"^task.arguments.latents: expected an int, got 'many'$"),
        ("common.toy_tasks:Toy", {}, r"^task.name: common.toy_tasks:Toy does not define figures, init, .*, quantities, which"),
        ("common.toy_tasks:Gone", {}, r'^task.name: the module "common.toy_tasks" has no class "Gone"$'),
        ("common.gone:Task", {}, r'^task.name: no module "common.gone", neither installed nor in '),
        ("common.toy_tasks:Encoder", {}, r"^task.name: common.toy_tasks:Encoder is not a subclass of jaxcnn.tasks.task.Task$"),
    ],
)
def test_tasks_and_arguments_that_do_not_exist_are_named(name, arguments, message):
    config = config_of("Gan")
    config.task.name = name
    config.task.arguments = type(config)(arguments)
    with pytest.raises(UserError, match=message):
        prepare(validate(config))

"""What the trainer promises, for tasks with several phases, with collections, with a frozen teacher."""

import dataclasses
import json
import shutil
import signal
import time

import cv2
import jax
import numpy as np
import pytest
from common.child_processes import experiment, finish
from common.small_runs import TIMES, quiet, small_config

from jaxcnn import train
from jaxcnn.config import changed, validate
from jaxcnn.errors import UserError
from jaxcnn.train.clock import Clock
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history
from jaxcnn.train.steps import Steps

TASKS = {"Gan": {}, "MovingTarget": {}, "Distillation": {"temperature": 2.0}}


def config_of(task, **changes):
    """Twenty steps with evaluations, checkpoints and rows that do not coincide."""
    every = {"total": "20steps", "evaluate.every": "9steps", "checkpoint.every": "4steps", "log.every": "5steps"}
    config = small_config(
        **{"model.name": "lenet5", "data.image_size": 0, "batch_size": 32, "schedule.warmup": "0steps", **every, **changes}
    )
    config.task.name = f"common.toy_tasks:{task}"
    config.task.arguments.update(TASKS[task])
    return config


def outcome(workdir):
    """(figures, rows without times)."""
    summary = json.loads((workdir / "summary.json").read_text())
    figures = {name: value for name, value in summary.items() if name.startswith(("test_", "tested", "params"))}
    del figures["test_seconds"]
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in read_history(workdir)]
    return figures, rows


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory):
    """(task, folder, summary, what was printed) of a whole run in this process."""
    workdir, (console, text) = tmp_path_factory.mktemp("whole"), quiet()
    summary = train.run(config_of(request.param), workdir, console=console)
    return request.param, workdir, summary, text()


def start(task, workdir):
    """The same run in a process."""
    file = workdir.parent / f"{task}.py"
    file.write_text(f"from tasks.test_toy_runs import config_of\n\n\ndef get_config():\n    return config_of({task!r})\n")
    return experiment("train.py", f"--config={file}", f"--workdir={workdir}", cache=workdir.parent / "xla")


@pytest.mark.slow
@pytest.mark.process
def test_run_that_was_killed_ends_with_the_same_bits(run, tmp_path):
    task, whole, *_ = run
    workdir = tmp_path / "run"
    for checkpoint in (4, 12):
        process = start(task, workdir)
        deadline = time.monotonic() + 120
        while not (workdir / "checkpoints" / str(checkpoint)).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, out, err = finish(start(task, workdir))
    assert code == 0, out + err
    assert "resumed at step" in out or "nothing is left to do" in out
    (figures, rows), (expected, expected_rows) = outcome(workdir), outcome(whole)
    assert figures == expected
    np.testing.assert_equal(rows, expected_rows)  # NaN equals NaN


@pytest.mark.slow
def test_resumed_from_any_checkpoint_in_this_process_ends_with_the_same_bits(run, tmp_path):
    task, whole, *_ = run
    workdir = shutil.copytree(whole, tmp_path / "run")
    latest = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())
    shutil.rmtree(workdir / "checkpoints" / str(latest))
    (workdir / "summary.json").unlink()
    train.run(config_of(task), workdir, console=quiet()[0])
    (figures, rows), (expected, expected_rows) = outcome(workdir), outcome(whole)
    assert figures == expected
    np.testing.assert_equal(rows, expected_rows)


@pytest.mark.slow
def test_figures_are_of_exactly_the_examples_whatever_the_batch_size(run, tmp_path):
    _, workdir, summary, _ = run
    trained = train.load_trained(workdir)
    assert summary["test_examples"] == 360
    for size in (32, 7):
        config = changed(trained.config, {"evaluate.batch_size": size})
        figures = train.evaluate(dataclasses.replace(trained, config=config))
        for name, value in figures.items():
            assert summary[name] == pytest.approx(value, rel=1e-6), (size, name)


@pytest.mark.slow
def test_prediction_describes_each_picture(run, tmp_path):
    _, workdir, *_ = run
    cv2.imwrite(str(tmp_path / "a.png"), np.full((8, 8), 200, np.uint8))
    trained = train.load_trained(workdir)
    (result,), unreadable = train.predict_files(trained, [tmp_path / "a.png"])
    assert result["file"].endswith("a.png")
    assert all(np.isfinite(value) for name, value in result.items() if name != "file")
    assert not unreadable


@pytest.mark.slow
def test_first_steps_on_eight_devices_are_those_of_one(run, tmp_path):
    task = run[0]
    train.run(config_of(task, devices=8, total="3steps", **{"log.every": "1steps"}), tmp_path / "8", console=quiet()[0])
    train.run(config_of(task, total="3steps", **{"log.every": "1steps"}), tmp_path / "1", console=quiet()[0])
    one, eight = ([row for row in read_history(tmp_path / name) if "gradient_norm" in row] for name in ("1", "8"))
    for row, other in zip(one, eight, strict=True):
        for name in row.keys() - TIMES:
            np.testing.assert_allclose(other[name], row[name], rtol=3e-3, err_msg=name)


def test_metrics_of_a_phase_that_is_skipped_are_not_averaged(tmp_path):
    """The generator's turn is every other step: its row has the mean over the steps that it has."""
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


def test_frozen_batch_norm_keeps_its_statistics_in_its_own_network_alone():
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
        ("Gan", {"model.name": "resnet18"}, r"^model.name: has no effect, as the task common.toy_tasks:Gan has networks of"),
        ("Gan", {"evaluate.metric": "accuracy"}, r"^evaluate.metric: the task has no 'accuracy' to select by; it has distance"),
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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("clasification", {}, r"^task.name: no task 'clasification' \(did you mean .classification.\?\); there are classif"),
        ("common.toy_tasks:Distillation", {}, r"^task.arguments.temperature: .* needs this argument; set --config.task.arg"),
        (
            "common.toy_tasks:Gan",
            {"latent": 3},
            r'^task.arguments.latent: .* has no such argument \(did you mean "latents"',
        ),
        ("common.toy_tasks:Gan", {"latents": "many"}, r"^task.arguments.latents: expected an int, got 'many'$"),
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

"""Runs on image files are bit-identical whether read by threads or processes, and uninterrupted or resumed."""

import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from common.child_processes import experiment, finish
from sklearn.datasets import load_digits

CONFIG = """
from common.small_runs import small_config
def get_config():
    return small_config(**{{
        "data.name": "folder", "data.root": "{root}", "data.random_crop": ((0.5, 1.0), (0.8, 1.25)), "data.augment": (),
        "data.on_error": "skip", "total": "30steps", "batch_size": 32, "checkpoint.every": "5steps",
    }})
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A config for 300 of the digits as image files, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("pictures")
    digits = load_digits()
    for index in range(300):
        path = folder / "pictures" / str(digits.target[index]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.kron(digits.images[index] * 15.9, np.ones((5, 5))).astype(np.uint8))
    path.write_text("not a picture")
    (folder / "pictures.py").write_text(CONFIG.format(root=folder / "pictures"))
    return folder / "pictures.py"


def start(config, workdir, workers, *more):
    return experiment("train.py", f"--config={config}", f"--workdir={workdir}", f"--config.data.workers={workers}", *more)


def wait_for_checkpoint(workdir, step, process):
    deadline = time.monotonic() + 120
    while not (workdir / "checkpoints" / str(step)).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.process
def test_run_whose_worker_is_killed_reports_it_and_can_be_resumed(config, tmp_path):
    longer = ["--config.total=400steps", "--config.evaluate.every=400steps", "--config.checkpoint.every=50steps"]
    process = start(config, tmp_path, 2, *longer)
    wait_for_checkpoint(tmp_path, 50, process)
    children = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if b"spawn_main" in path.read_bytes()]
    mine = [p for p in children if f"PPid:\t{process.pid}\n" in (p / "status").read_text()]
    os.kill(int(mine[0].name), signal.SIGKILL)
    code, out, err = finish(process)
    assert code == 1, out + err
    assert err.startswith("error: data.workers: a process that reads examples was killed")
    assert len(err.splitlines()) == 1, err
    code, out, err = finish(start(config, tmp_path, 0, *longer))
    assert code == 0, out + err
    assert "resumed at step" in out


@pytest.mark.slow
@pytest.mark.process
def test_resumed_run_with_processes_equals_an_uninterrupted_one_with_threads(config, tmp_path):
    code, out, err = finish(start(config, tmp_path / "threads", workers=0))
    assert code == 0, out + err
    workdir = tmp_path / "processes"
    process = start(config, workdir, workers=2)
    wait_for_checkpoint(workdir, 10, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (workdir / "summary.json").exists()
    code, out, err = finish(start(config, workdir, workers=1))
    assert code == 0, out + err
    assert "resumed at step" in out
    expected, summary = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("threads", "processes"))
    for name in ("params_sha256", "test_loss", "test_accuracy", "validation_accuracy"):
        assert summary[name] == expected[name], name
    assert expected["unreadable"] == 1
    assert [path.split("/")[-1] for path in expected["unreadable_files"]] == ["299.png"]

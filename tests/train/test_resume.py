"""A run that is killed at any time and resumed has the same result as an uninterrupted run."""

import json
import random
import signal
import time

import pytest
from common.child_processes import experiment, finish
from common.small_runs import TIMES

from jaxcnn.train.log import read_history

FILE = """
from common.small_runs import small_config
def get_config():
    return small_config()
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Returns (summary, rows) of an uninterrupted run in a separate process."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    code, out, err = finish(start(workdir))
    assert code == 0, out + err
    return outcome(workdir)


def start(workdir):
    """Starts the run with the default compilation cache, so that a resumed run uses the same compiled programs."""
    config = workdir.parent / "small.py"
    config.write_text(FILE)
    return experiment("train.py", f"--config={config}", f"--workdir={workdir}", cache=workdir.parent / "xla")


def outcome(workdir):
    rows = [{name: value for name, value in row.items() if name not in TIMES} for row in read_history(workdir)]
    return json.loads((workdir / "summary.json").read_text()), rows


def assert_same_result(workdir, uninterrupted):
    (summary, rows), (expected, expected_rows) = outcome(workdir), uninterrupted
    for name in ("params_sha256", "test_loss", "test_accuracy", "tested_step", "steps", "validation_accuracy"):
        assert summary[name] == expected[name], name
    assert rows == expected_rows


def wait_for(condition, process, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.process
def test_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, uninterrupted):
    workdir, moments = tmp_path / "run", random.Random(0)
    for checkpoint in (7, 14, 30):  # killed some time after these: during steps, evaluations or the writing of a checkpoint
        process = start(workdir)
        wait_for((workdir / "checkpoints" / str(checkpoint)).exists, process)
        time.sleep(moments.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (workdir / "summary.json").exists(), "it was too fast to be killed: the test shows nothing"
    code, out, err = finish(start(workdir))
    assert code == 0, out + err
    assert "resumed at step" in out
    assert list((tmp_path / "xla").glob("jit_steps-*")), "nothing came from the cache: the test shows less than it should"
    assert_same_result(workdir, uninterrupted)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signal_saves_the_run_and_the_same_command_resumes_it(tmp_path, uninterrupted, number, code):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for((workdir / "checkpoints" / "7").exists, process)
    process.send_signal(number)
    stopped, out, err = finish(process)
    assert stopped == code, out + err
    assert err.startswith(f"stopped: received {number.name} after step ")
    assert len(err.splitlines()) == 1
    code, out, _ = finish(start(workdir))
    assert code == 0
    assert "resumed at step" in out
    assert_same_result(workdir, uninterrupted)

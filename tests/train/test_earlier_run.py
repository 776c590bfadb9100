"""A run made before tasks existed: it evaluates, predicts and resumes.

earlier_run.zip was made at the last revision whose checkpoints name a classifier's kind of labels as their task: LeNet-1 on
the digits, stopped by SIGTERM after step 13 of 24. In uninterrupted.json is the result of the same run in one go.
"""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from common.small_runs import TIMES, quiet, small_config

from jaxcnn import train
from jaxcnn.train.log import read_history


def config_of_the_run():
    every = {"evaluate.every": "12steps", "checkpoint.every": "24steps", "log.every": "5steps", "checkpoint.keep": 1}
    return small_config(total="24steps", **{"model.name": "lenet1", "data.image_size": 28}, **every)


@pytest.fixture
def workdir(tmp_path):
    with zipfile.ZipFile(Path(__file__).with_name("earlier_run.zip")) as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def test_earlier_run_evaluates_and_predicts(workdir, tmp_path):
    trained = train.load_trained(workdir)
    assert (trained.step, trained.task.kind, trained.class_names) == (12, "multiclass", tuple("0123456789"))
    expected = json.loads((workdir / "uninterrupted.json").read_text())["summary"]  # tested at step 12
    figures = train.evaluate(trained)
    assert figures["test_examples"] == expected["test_examples"]
    assert figures["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-4)
    assert figures["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.01)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    ((result,), unreadable) = train.predict_files(trained, [tmp_path / "a.png"])
    assert sum(row["probability"] for row in result["classes"]) == pytest.approx(1, abs=1e-5)
    assert not unreadable


@pytest.mark.slow
def test_earlier_run_resumes(workdir):
    expected = json.loads((workdir / "uninterrupted.json").read_text())
    console, text = quiet()
    summary = train.run(config_of_the_run(), workdir, console=console)
    assert "resumed at step 13" in text()
    for name, value in expected["summary"].items():
        assert summary[name] == pytest.approx(value, rel=1e-3), name
    rows = read_history(workdir)
    assert [row["step"] for row in rows] == [row["step"] for row in expected["rows"]]
    for row, expected_row in zip(rows, expected["rows"], strict=True):
        assert row.keys() - TIMES == expected_row.keys()
        for name, value in expected_row.items():
            assert row[name] == pytest.approx(value, rel=2e-3, abs=1e-4), (row["step"], name)

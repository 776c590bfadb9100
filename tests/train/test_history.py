"""Rows of metrics.jsonl, and evaluations from the checkpoint that are missing there."""

import json

import pytest

from jaxcnn.tasks.classification import Classification
from jaxcnn.train.log import read_history, resumed_history
from jaxcnn.train.selection import Selection

TRAIN = [{"step": step, "epoch": step / 10, "train_loss": 1 / step} for step in (10, 20, 30)]
VALIDATION = [
    {"step": step, "epoch": step / 10, "validation_accuracy": accuracy} for step, accuracy in ((15, 0.9), (20, 0.8), (30, 0.7))
]
ROWS = [TRAIN[0], VALIDATION[0], TRAIN[1], VALIDATION[1], TRAIN[2], VALIDATION[2]]


def read(tmp_path, lines):
    """Returns (rows, warnings) of metrics.jsonl with these lines."""
    said = []
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return read_history(tmp_path, said.append), said


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\0\0\0\0", b'{"step": 20, "epo', b"foreign text", b"[1, 2]", b"17", b"null", b'{"epoch": 2.0}', b'{"step": 3}',
        b'{"step": "3", "epoch": 1.0}', b'{"step": true, "epoch": 1.0}', b'{"step": 3, "epoch": 1.0, "loss": [1]}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_invalid_lines_are_skipped_and_counted(tmp_path, line):
    lines = [json.dumps(row).encode() for row in ROWS]
    rows, said = read(tmp_path, [*lines[:2], line, *lines[2:], line])
    assert rows == ROWS
    assert len(said) == 1
    assert "2 of 8 lines" in said[0]


def test_incomplete_last_line_is_skipped_silently(tmp_path):
    said = []
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"step": 40, "ep')
    assert read_history(tmp_path, said.append) == ROWS
    assert read_history(tmp_path / "none", said.append) == []
    assert said == []


def test_resumed_run_forgets_later_rows():
    assert resumed_history(ROWS, 20, VALIDATION[:2], pytest.fail) == ROWS[:4]


@pytest.mark.parametrize("rows", [[], TRAIN, ROWS[:2], ROWS[4:], [{"step": 5, "epoch": 0.5, "validation_accuracy": 1.0}]])
def test_evaluations_are_those_of_the_checkpoint_for_any_file(rows):
    said = []
    history = resumed_history(rows, 30, VALIDATION, said.append)
    assert [row for row in history if "validation_accuracy" in row] == VALIDATION
    assert [row for row in history if "train_loss" in row] == [row for row in rows if "train_loss" in row]
    assert Selection(Classification.quantities[0]).best_step(history) == 15
    assert len(said) == 1
    assert "missing evaluations were restored from the checkpoint" in said[0]


def test_checkpoint_of_an_earlier_version_leaves_the_file_as_it_is():
    assert resumed_history(ROWS, 20, None, pytest.fail) == ROWS[:4]

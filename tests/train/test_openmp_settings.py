"""A complete training with each of the OpenMP settings under which oneDNN once waited forever for a thread."""

import json
import os

import pytest
from common.child_processes import experiment, finish
from common.onednn_cases import needs_onednn


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
@pytest.mark.parametrize(
    "settings",
    [
        {"OMP_NUM_THREADS": "5", "OMP_THREAD_LIMIT": "2"},
        {"OMP_DYNAMIC": "true", "OMP_NUM_THREADS": "4"},
        {"OMP_THREAD_LIMIT": "1"},
    ],
    ids=str,
)
def test_lenet5_digits_trains_to_the_end(settings, tmp_path, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setitem(os.environ, name, value)
    code, out, err = finish(experiment("train.py", "--config=configs/lenet5_digits.py", f"--workdir={tmp_path}"), timeout=240)
    assert code == 0, out + err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["cpu_convolution"].startswith("onednn 3.")
    assert summary["test_accuracy"] > 0.97

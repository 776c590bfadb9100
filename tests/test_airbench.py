"""experiments/airbench.py as users run it: its statistics agree with those of its runs."""

import json

import numpy as np
import pytest
from common.child_processes import experiment, finish
from common.narrow_airbench import settings


@pytest.mark.slow
@pytest.mark.process
def test_airbench_prints_and_keeps_the_mean_and_deviation_of_its_runs(tmp_path):
    flags = [f"--config.{name}={value}" for name, value in settings(tmp_path).items()] + ["--config.seed=3"]
    flags += [f"--workdir={tmp_path / 'runs'}", f"--json={tmp_path / 'figures.json'}"]
    code, out, err = finish(experiment("airbench.py", "--runs=2", "--warm_up", *flags))
    assert code == 0, err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"seed3", "seed4"}
    seconds, accuracies = [], []
    for seed, run in zip((3, 4), figures["runs"], strict=True):
        summary = json.loads((tmp_path / "runs" / f"seed{seed}" / "summary.json").read_text())
        assert run["seed"] == summary["seed"] == seed
        seconds.append(sum(summary[f"{part}_seconds"] for part in ("initial", "training", "test")))
        accuracies.append(summary["test_accuracy"])
        assert f"seed {seed}: test accuracy {summary['test_accuracy']:.2%}, {seconds[-1]:.4g} s on the clock" in out
        assert seconds[-1] < summary["wall_seconds"] - summary["compile_seconds"]
    for name, values in (("seconds", seconds), ("test_accuracy", accuracies)):
        assert figures[f"{name}_mean"] == pytest.approx(np.mean(values))
        assert figures[f"{name}_std"] == pytest.approx(np.std(values, ddof=1))
    assert f"test accuracy {100 * np.mean(accuracies):.2f} ± {100 * np.std(accuracies, ddof=1):.2f} %, " in out

    code, out, err = finish(experiment("airbench.py", "--runs=1", *flags))  # has been run
    assert code == 0, err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["seconds_std"] is figures["test_accuracy_std"] is None
    assert f"test accuracy {100 * accuracies[0]:.2f} %, " in out


@pytest.mark.slow
@pytest.mark.process
def test_airbench_without_data_ends_in_one_line(tmp_path):
    code, out, err = finish(experiment("airbench.py", f"--workdir={tmp_path}", "--config.data.root=nowhere"))
    assert code == 2
    assert err.startswith("error: data.root: no ")
    assert len(err.splitlines()) == 1
    assert not out

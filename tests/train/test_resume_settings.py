"""A run is resumed only with settings that give the same result; and --extend."""

import json
import math
import os
import re
import shutil

import numpy as np
import pytest
from common.begun_runs import begin
from common.small_runs import TIMES, quiet, small_config
from PIL import Image

from jaxcnn import data, train
from jaxcnn.config import from_saved
from jaxcnn.errors import UserError
from jaxcnn.train import resume
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.log import read_history

SETTINGS = {"optimizer.learning_rate": 0.2, "ema.decay": 0.0, "evaluate.every": "3steps", "checkpoint.keep": 20}
"""Settings of a run whose last evaluations are equal, so that the first of them is the best."""


def run(workdir, *, extend=False, **changes):
    """Returns (summary, printed text) of a small run."""
    console, text = quiet()
    return train.run(small_config(**changes), workdir, console=console, extend=extend), text()


@pytest.fixture
def begun(tmp_path):
    """The folder of a run that has reached step 7."""
    begin(tmp_path / "run", small_config())
    return tmp_path / "run"


def damage(path, content):
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"{}", b'{"foreign": 1}', b"\0\0\0"])
def test_settings_are_those_of_the_checkpoint_for_any_config_json(begun, content):
    damage(begun / "config.json", content)
    with pytest.raises(UserError, match=re.escape("a different config (optimizer.learning_rate: 0.02 -> 0.5)")):
        run(begun, **{"optimizer.learning_rate": 0.5})


@pytest.mark.parametrize("content", [None, b"", b'{"foreign": 1}'])
def test_network_is_loaded_for_any_config_json(begun, content):
    damage(begun / "config.json", content)
    trained = train.load_trained(begun)
    assert (trained.step, trained.config.optimizer.learning_rate) == (7, 0.02)


def test_settings_are_also_compared_without_a_checkpoint(begun):
    begin(begun, small_config(), step=14)
    (begun / "config.json").unlink()
    shutil.rmtree(begun / "checkpoints" / "14")
    with pytest.raises(UserError, match="a different config"):
        run(begun, seed=1)


def test_refusal_names_the_alternatives(begun):
    with pytest.raises(UserError) as longer:
        run(begun, total="80steps")
    assert "total: '40steps' -> '80steps'" in str(longer.value)
    assert "--extend" in str(longer.value)
    for changes in ({"optimizer.learning_rate": 0.5}, {"optimizer.learning_rate": 0.5, "total": "80steps"}):
        for extend in (False, True):
            with pytest.raises(UserError, match=f"a new folder with --config.model.pretrained={begun}$") as other:
                run(begun, extend=extend, **changes)
            assert "--extend" not in str(other.value)


def test_extension_needs_a_run_and_a_larger_total(begun, tmp_path):
    with pytest.raises(UserError, match=r"--extend: .* contains no run"):
        run(tmp_path / "new", extend=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(
        UserError, match=r"--extend: the new total, 1epochs \(21 steps\), must be larger than .*, 40steps \(40 steps\)"
    ):
        run(begun, extend=True, total="1epochs")


@pytest.mark.parametrize("content", [None, b"", b"{", b"{}", b"[]", b"null", b'{"foreign": 1}', b'{"steps": 40}'])
def test_invalid_summary_is_ignored(tmp_path, content):
    said = []
    if content is not None:
        (tmp_path / "summary.json").write_bytes(content)
    assert resume.finished_summary(tmp_path, said.append) == {}
    assert len(said) == (content is not None)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json", "report.html", "checkpoints", "tensorboard"])
def test_path_of_another_type_is_refused_before_training(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "file":
        path.write_text("x")
    else:
        path.mkdir()
    wrong = (kind == "folder") if "." in name else (kind != "folder")
    if wrong:
        with pytest.raises(UserError, match=f"--workdir: .*{name} is a (file|folder|broken symbolic link),"):
            run(tmp_path)
    else:
        with pytest.raises(UserError, match=r"model\.name"):  # the later checks are reached
            run(tmp_path, **{"model.name": "lenet6"})


def test_home_folder_in_a_path_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    begin(tmp_path / "run", small_config())
    with pytest.raises(UserError, match=f"{tmp_path}/run contains a run with a different config"):
        run("~/run", seed=1)
    assert train.load_trained("~/run").step == 7


@pytest.mark.parametrize(
    ("changes", "threads"),
    [({}, 4), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "3,2"}, 3), ({"OMP_NUM_THREADS": "x"}, 4),
     ({"OMP_THREAD_LIMIT": "2"}, 2)],
)  # fmt: skip
def test_changes_of_threads_convolutions_and_devices_are_reported_in_one_line(monkeypatch, changes, threads):
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(data, "cores", lambda: 4)
    before, said = resume.computed_by(make_mesh(1), "onednn 3.2 (avx2)"), []
    assert before["threads of oneDNN"] == "4"
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    resume.warn_if_environment_changed(before, resume.computed_by(make_mesh(1), "onednn 3.2 (avx2)"), said.append)
    assert [f"(threads of oneDNN: 4 -> {threads})" in line for line in said] == [True] * (threads != 4)

    said.clear()
    monkeypatch.setattr(data, "cores", lambda: 1)
    resume.warn_if_environment_changed(before, resume.computed_by(make_mesh(2), "xla"), said.append)
    (line,) = said
    for difference in ("devices: 1 × cpu -> 2 × cpu", "threads: 4 -> 1", "convolutions by: onednn 3.2 (avx2) -> xla"):
        assert difference in line


# ── Complete runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, summary, printed text) of a run whose best step is not its last."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, *run(workdir, **SETTINGS)


def rows(workdir):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read_history(workdir)]


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"\0" * 300, b'{"step": 40, "epoch": 2.0, "validation_accuracy": 1.0}\n'])
def test_best_step_is_that_of_the_checkpoint_for_any_metrics_jsonl(finished, tmp_path, content):
    assert finished[1]["tested_step"] < 40, "the last step is the best: the test shows nothing"
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    damage(workdir / "metrics.jsonl", content)
    (workdir / "summary.json").write_text("{}")
    summary, _ = run(workdir, **SETTINGS)
    for name in ("tested_step", "validation_accuracy", "test_accuracy", "test_loss", "params_sha256"):
        assert summary[name] == finished[1][name], name
    evaluations = [[row for row in rows(folder) if "validation_loss" in row] for folder in (workdir, finished[0])]
    assert evaluations[0] == evaluations[1]


@pytest.mark.slow
def test_introduction_names_classes_channels_and_measured_statistics(finished):
    line = finished[2].splitlines()[1]
    assert line.startswith("10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; images of 8×8 pixels, resized to 32×32, with 1 channel,")
    assert line.endswith("mean 0.305, standard deviation 0.376")


@pytest.mark.slow
def test_settings_that_do_not_change_the_result_may_change_during_a_run(tmp_path, finished):
    """They are changed when the run is resumed, and its result is bit-identical."""
    half = half_way(finished[0], tmp_path)
    summary, said = run(half, **SETTINGS | {
        "data.resident": "on", "data.threads": 3,
        "checkpoint.every": "9steps", "checkpoint.keep": 5, "total": "40 step",
    })  # fmt: skip
    assert "resumed at step" in said
    assert "warning" not in said
    for name in ("tested_step", "validation_accuracy", "test_loss", "params_sha256"):
        assert summary[name] == finished[1][name], name
    assert rows(half) == rows(finished[0])


def half_way(finished, tmp_path):
    """Returns a copy of a run with only its first checkpoint, as if it had been killed after it."""
    half = shutil.copytree(finished, tmp_path / "half")
    for step in sorted(int(path.name) for path in (half / "checkpoints").iterdir())[1:]:
        shutil.rmtree(half / "checkpoints" / str(step))
    (half / "summary.json").unlink()
    return half


@pytest.mark.slow
def test_data_may_be_moved_and_cached_during_a_run(tmp_path):
    for number in range(60):
        path = tmp_path / "data" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    changes = {"data.name": "folder", "total": "6steps", "batch_size": 8, "checkpoint.every": "2steps", "checkpoint.keep": 3}
    changes |= {"data.augment": (), "data.validation": 0.2, "schedule.warmup": "1steps"}
    uninterrupted, _ = run(tmp_path / "run", **changes, **{"data.root": str(tmp_path / "data")})
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = {"data.root": f"{tmp_path}/moved/", "data.cache": "disk", "data.cache_folder": str(tmp_path / "cache")}
    summary, said = run(half_way(tmp_path / "run", tmp_path), **changes, **moved)
    assert "resumed at step 2" in said
    assert summary["params_sha256"] == uninterrupted["params_sha256"]


@pytest.mark.slow
def test_finished_run_is_extended_by_the_schedule_of_the_new_total(tmp_path, finished):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    changes = SETTINGS | {"total": "60steps"}
    summary, said = run(workdir, extend=True, **changes)
    assert "resumed at step 40" in said
    assert "the result differs from that of a run started with this total" in said
    assert (summary["steps"], summary["extended"]) == (60, [{"at_step": 40, "from_steps": 40}])
    later = {row["step"]: row["learning_rate"] for row in rows(workdir) if "learning_rate" in row}
    # cosine from the end of the warm-up at step 5 to step 60, at the last step before each row
    expected = {step: 0.2 * (1 + math.cos(math.pi * (step - 1 - 5) / 55)) / 2 for step in (50, 60)}
    assert {step: later[step] for step in expected} == pytest.approx(expected, rel=1e-5)
    assert [row for row in rows(workdir) if row["step"] <= 40] == rows(finished[0])
    assert run(workdir, extend=True, **changes)[0] == json.loads((workdir / "summary.json").read_text())
    assert "nothing to do" in run(workdir, **changes)[1]


@pytest.mark.slow
def test_interrupted_extension_of_a_finished_run_is_resumed(tmp_path, finished, monkeypatch):
    workdir = shutil.copytree(finished[0], tmp_path / "run")
    changes = SETTINGS | {"total": "60steps"}
    with monkeypatch.context() as patch:
        patch.setattr("jaxcnn.train.steps.Steps.__call__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(workdir, extend=True, **changes)
    assert not (workdir / "summary.json").exists(), "it would be taken for the result of the longer run"
    assert run(workdir, extend=True, **changes)[0]["steps"] == 60


def test_older_checkpoint_has_settings_alone(tmp_path):
    """Early versions stored no data fingerprint, environment or history. Only the settings are compared."""
    begin(tmp_path, small_config())
    path = tmp_path / "checkpoints" / "7" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    for name in ("data", "computed_by", "extended", "history", "shapes"):
        del meta[name]
    del meta["checksums"]["meta"]
    path.write_text(json.dumps(meta))
    assert resume.earlier_config(tmp_path, meta, False, pytest.fail) == from_saved(meta["config"], "")
    with pytest.raises(UserError, match="a different config"):
        run(tmp_path, seed=1)
    assert os.listdir(tmp_path / "checkpoints") == ["7"]

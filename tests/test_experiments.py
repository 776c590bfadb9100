"""The commands as users run them: their output and exit codes."""

import csv
import json
import os

import cv2
import numpy as np
import pytest
from common.child_processes import ROOT, experiment, finish, run
from common.small_runs import quiet, small_config
from sklearn.datasets import load_digits

from jaxcnn import train


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The folder of a finished run with sufficient accuracy on the digits."""
    workdir = tmp_path_factory.mktemp("run")
    train.run(
        small_config(**{
            "optimizer.name": "adamw", "optimizer.learning_rate": 3e-3, "total": "8epochs", "data.augment": (),
            "evaluate.every": "8epochs", "checkpoint.every": "8epochs",
        }),
        workdir, console=quiet()[0],
    )  # fmt: skip
    return workdir


@pytest.mark.slow
@pytest.mark.process
def test_predict_prints_classes_and_names_unreadable_files(workdir, tmp_path):
    digits, photos = load_digits(), []
    for index in range(20):
        photo = np.kron(digits.images[index] * 15.9, np.ones((12, 12))).astype(np.uint8)  # 96×96
        photos.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(photos[-1]), photo)
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    bad = [tmp_path / "text.png", tmp_path / "empty.jpg", tmp_path / "missing.png"]
    code, out, err = finish(experiment("predict.py", f"--workdir={workdir}", "--json", "--top=3", *bad, *photos))
    assert code == 1, err
    step = json.loads((workdir / "summary.json").read_text())["tested_step"]
    assert err.splitlines()[0] == f"{workdir}, step {step}"
    assert [line.split(":")[:2] for line in err.splitlines()[1:]] == [["error", f" {path}"] for path in bad]
    results = json.loads(out)
    assert [result["file"] for result in results] == list(map(str, photos))
    assert all(len(result["classes"]) == 3 for result in results)
    right = [int(result["classes"][0]["name"]) == digits.target[i] for i, result in enumerate(results)]
    assert np.mean(right) > 0.7


@pytest.mark.slow
@pytest.mark.process
def test_predict_accepts_folders_and_any_file_name_and_writes_a_table(workdir, tmp_path):
    digits = load_digits()
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "read.me").write_text("no picture")
    (tmp_path / "photos" / ".hidden.png").touch()
    names = ["a.png", "b, c.png", "deep/d.png", "z.without_suffix"]
    files = [tmp_path / "photos" / name for name in names] + [tmp_path / "config.png"]
    for index, path in enumerate(files):
        path.write_bytes(cv2.imencode(".png", (digits.images[index] * 15.9).astype(np.uint8))[1].tobytes())

    def predict(*flags, **options):
        return finish(experiment("predict.py", f"--workdir={workdir}", *flags, tmp_path / "photos", "config.png", **options))

    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    code, out, err = predict("--json", "--top=10", cwd=tmp_path, env=environment)
    assert code == 0, err
    assert err.splitlines()[0] == f"{tmp_path}/photos: ignored files that are not images: 1 (read.me)"
    results = json.loads(out)
    assert [result["file"] for result in results] == [*map(str, files[:4]), "config.png"]
    assert out == json.dumps(results, indent=2, ensure_ascii=False) + "\n"
    code, out, err = predict(f"--csv={tmp_path}/table.csv", cwd=tmp_path, env=environment)
    assert (code, out) == (0, ""), err
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class", "probability", *(f"p({digit})" for digit in range(10))]
    code, _, err = predict(f"--out={tmp_path}/drawn", cwd=tmp_path, env=environment)
    assert code == 0, err
    drawn = [path.relative_to(tmp_path / "drawn").as_posix() for path in sorted((tmp_path / "drawn").rglob("*.png"))]
    assert drawn == ["a.png", "b, c.png", "config.png", "deep/d.png", "z.png"]
    picture = cv2.imread(str(tmp_path / "drawn" / "a.png"))
    np.testing.assert_array_equal(picture[:8, :8], cv2.imread(str(files[0])))
    assert (picture[8:] < 100).any(), "class names stand below"
    code, _, err = predict("--out=photos", cwd=tmp_path, env=environment)
    assert (code, err.splitlines()[2:]) == (
        2,
        ["error: --out: photos/a.png is one of the images to predict; choose another folder"],
    )
    for row, result in zip(rows, results, strict=True):
        assert row["file"] == result["file"]
        assert (row["class"], float(row["probability"])) == (
            result["classes"][0]["name"], pytest.approx(result["classes"][0]["probability"], rel=1e-5)
        )  # fmt: skip
        for found in result["classes"]:
            assert float(row[f"p({found['name']})"]) == pytest.approx(found["probability"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.process
def test_evaluate_prints_the_metrics_of_the_summary(workdir):
    code, out, err = finish(experiment("evaluate.py", f"--workdir={workdir}", "--json"))
    assert code == 0, err
    summary = json.loads((workdir / "summary.json").read_text())
    figures = json.loads(out)
    assert figures["step"] == summary["tested_step"]
    assert err == f"{workdir}, step {summary['tested_step']}\n"
    assert figures["test_examples"] == summary["test_examples"] == 360
    assert figures["test_accuracy"] == summary["test_accuracy"]
    assert figures["test_loss"] == pytest.approx(summary["test_loss"], rel=1e-6)


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ["--config=configs/lenet5_digits.py", "--workdir={tmp}", "--config.optimizer.learning_rat=1"],
         "error: config: no setting 'optimizer.learning_rat' (did you mean \"optimizer.learning_rate\""),
        ("train.py", ["--config=configs/lenet5_mnist.py", "--workdir={tmp}", "--config.data.root={tmp}"],
         'error: data.root: no file or folder "{tmp}/train-images-idx3-ubyte.gz"'),
        ("evaluate.py", ["--workdir={tmp}"], "error: --workdir: {tmp} contains no trained run"),
        ("evaluate.py", ["--config=configs/lenet5_digits.py", "--step=1"], "error: --step: requires --workdir"),
        ("predict.py", ["--workdir={tmp}", "{tmp}"], "error: {tmp}: no images in this folder"),
        ("predict.py", ["--workdir={tmp}", "--json", "--csv=-", "a.png"], "error: --csv: cannot be combined with --json"),
        ("predict.py", ["--workdir={tmp}", "--out=README.md", "a.png"], "error: --out: README.md is a file; expected a folder"),
        ("predict.py", ["--wokdir={tmp}"], "error: Unknown command line flag 'wokdir'. Did you mean: workdir ?"),
    ],
)  # fmt: skip
def test_mistake_ends_in_one_line_and_exit_code_2(tmp_path, script, arguments, message):
    code, out, err = finish(experiment(script, *(a.format(tmp=tmp_path) for a in arguments)))
    assert code == 2, (out, err)
    assert len(err.splitlines()) == 1, err
    assert err.startswith(message.format(tmp=tmp_path))
    assert not out
    assert not {path.name for path in tmp_path.iterdir()} - {".lock"}


@pytest.mark.process
def test_print_config_prints_every_setting_and_does_not_train():
    code, out, _ = finish(experiment("train.py", "--config=configs/resnet_cifar10.py:56", "--print_config"))
    assert code == 0
    assert "model.name = 'resnet56'" in out
    assert "schedule.boundaries = ('32000steps', '48000steps')" in out


@pytest.mark.process
def test_import_stays_light():
    """`import jaxcnn` imports no heavy packages except jax and flax. Others are imported on first use."""
    heavy = ["cv2", "grain", "matplotlib", "optax", "sklearn", "tensorboardX", "torch", "tensorflow"]
    code = (
        "import sys, jax, flax.linen; before = set(sys.modules); import jaxcnn; "
        f"print(sorted((set(sys.modules) - before) & set({heavy})))"
    )
    assert run("-c", code) == (0, "[]\n", "")

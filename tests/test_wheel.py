"""The wheel, installed without access to the repository: the command, configs by name, and types."""

import json
import os
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from common.child_processes import ROOT, run
from PIL import Image

import jaxcnn

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with the wheel, which uses the dependencies of the test environment; and a working folder."""
    folder = tmp_path_factory.mktemp("wheel")
    code, _, err = run("-m", "hatchling", "build", "--target=wheel", f"--directory={folder}", cwd=ROOT)
    assert code == 0, err
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    pip = ("-m", "pip", "--quiet", f"--python={environment}", "install", "--no-deps", "--no-index", wheel)
    code, _, err = run(*pip, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    assert code == 0, err
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # nested .pth files are ignored
    (folder / "empty").mkdir()
    return wheel, environment, folder / "empty"


def command(installed, *arguments):
    """Runs the installed program as users do, in an empty folder."""
    _, environment, folder = installed
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHON"))}
    program = [str(environment / "bin" / "jaxcnn"), *map(str, arguments)]
    run_it = f"import os; os.execv({program[0]!r}, {program!r})"
    return run("-c", run_it, cwd=folder, env=clean | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": ""})


def test_wheel_contains_what_the_package_reads(installed):
    names = zipfile.ZipFile(installed[0]).namelist()
    assert {"jaxcnn/py.typed", "jaxcnn/configs/lenet5_digits.py", "jaxcnn/third_party/imagenet/class_names.txt"} <= set(names)
    programs = {Path(name).stem for name in names if name.startswith("jaxcnn/experiments/")}
    assert programs == {"train", "evaluate", "predict", "list_models", "show_data", "prepare"}
    assert not [name for name in names if name.startswith(("tests", "jaxcnn/experiments/benchmark"))]


def test_installed_command_trains_evaluates_and_predicts(installed):
    code, out, err = command(installed, "--version")
    assert (code, out, err) == (0, f"jaxcnn {jaxcnn.__version__}\n", "")
    few = ("--config.total=3epochs", "--config.evaluate.every=3epochs")
    code, out, err = command(installed, "train", "--config=lenet5_digits", "--workdir=digits", *few)
    assert code == 0, err
    assert "report: digits/report.html" in out
    folder = installed[2]
    summary = json.loads((folder / "digits" / "summary.json").read_text())
    code, out, err = command(installed, "evaluate", "--workdir=digits", "--json")
    assert code == 0, err
    assert json.loads(out)["test_accuracy"] == summary["test_accuracy"]
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "digit.png")
    code, out, err = command(installed, "predict", "--workdir=digits", "digit.png")
    assert code == 0, err
    assert out.startswith("digit.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "error: unknown command 'trian' (did you mean \"train\"?)"),
        (("benchmark",), "error: unknown command 'benchmark'; expected one of train, evaluate, "),
        (
            ("train", "--config=lenet5_digit"),
            "error: --config: no config is named 'lenet5_digit' (did you mean ",
        ),
        (("train", "--config=mine"), "error: --config: no config is named 'mine'; expected FILE.py or one of airbench94, "),
        (("train", "--config=mine.py"), "error: --config: no file 'mine.py'"),
    ],
)
def test_mistakes_end_in_one_line(installed, arguments, message):
    code, out, err = command(installed, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_commands_are_listed(installed):
    for arguments in ((), ("--help",)):
        code, out, err = command(installed, *arguments)
        assert (code, err) == (0, "")
        assert "  predict      Predicts the content of images\n" in out
    code, out, err = command(installed, "train", "--help")
    assert "--workdir" in out

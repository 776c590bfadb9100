"""The examples in docs/extending.md work as described there, and invalid user-defined classes are refused in one line."""

import json
import re
import shutil
import sys

import cv2
import numpy as np
import pytest
from common.child_processes import ROOT, experiment, finish

from jaxcnn.errors import UserError
from jaxcnn.models import create_model


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of the document, under the names used there."""
    (tmp_path / "my_package").mkdir()
    names = ("my_package/my_net.py", "my_config.py", "my_package/my_task.py", "my_task_config.py")
    text = (ROOT / "docs" / "extending.md").read_text()
    for name, code in zip(names, re.findall(r"```python\n(.*?)```", text, re.DOTALL), strict=True):
        assert f"`{name}`" in text
        (tmp_path / name).write_text(code)
    return tmp_path


@pytest.mark.slow
@pytest.mark.process
def test_the_documents_network_trains_and_evaluates(folder):
    few = ("--config.total=12steps", "--config.evaluate.every=12steps")
    code, out, err = finish(experiment("train.py", "--config=my_config.py", "--workdir=runs/my_net", *few, cwd=folder))
    assert code == 0, err
    assert "report: runs/my_net/report.html" in out
    summary = json.loads((folder / "runs" / "my_net" / "summary.json").read_text())
    assert summary["model"] == "my_package.my_net:MyNet"
    code, out, err = finish(experiment("evaluate.py", "--workdir=runs/my_net", "--json", cwd=folder))
    assert code == 0, err
    assert json.loads(out)["test_accuracy"] == summary["test_accuracy"]


def outcome(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name.startswith(("test_r", "test_e", "params", "tested"))}


@pytest.mark.slow
@pytest.mark.process
def test_the_documents_task_trains_resumes_evaluates_and_draws(folder):
    few = ("--config.total=12steps", "--config.evaluate.every=5steps", "--config.checkpoint.every=5steps")
    train = ("train.py", "--config=my_task_config.py", "--workdir=runs/rotation", *few)
    code, out, err = finish(experiment(*train, cwd=folder))
    assert code == 0, err
    assert "test rotation accuracy" in out
    workdir = folder / "runs" / "rotation"
    uninterrupted = outcome(workdir)
    assert uninterrupted["test_examples"] == 360

    shutil.rmtree(workdir / "checkpoints" / "12")
    (workdir / "summary.json").unlink()
    code, out, err = finish(experiment(*train, cwd=folder))
    assert code == 0, err
    assert "resumed at step 10" in out
    assert outcome(workdir) == uninterrupted

    code, out, err = finish(experiment("evaluate.py", "--workdir=runs/rotation", "--json", cwd=folder))
    assert code == 0, err
    assert json.loads(out)["test_rotation_accuracy"] == uninterrupted["test_rotation_accuracy"]

    photo = np.zeros((20, 30, 3), np.uint8)
    photo[:, 20:] = 255
    cv2.imwrite(str(folder / "photo.png"), photo)
    predict = ("predict.py", "--workdir=runs/rotation", "--json", "--out=turned", "photo.png")
    code, out, err = finish(experiment(*predict, cwd=folder))
    assert code == 0, err
    ((result,),) = (json.loads(out),)
    drawn = cv2.imread(str(folder / "turned" / "photo.png"))
    np.testing.assert_array_equal(drawn, np.rot90(photo, -result["turned_by_degrees"] // 90))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_package.my_nat:MyNet", 'no module "my_package.my_nat", neither installed nor in '),
        ("your_package.my_net:MyNet", 'no module "your_package.my_net"'),
        ("my_package.my_net:MyNat", 'the module "my_package.my_net" has no class "MyNat"'),
        ("my_package.my_net:nn", "my_package.my_net:nn is not a subclass of flax.linen.Module"),
        ("my_package.my_net:", 'the module "my_package.my_net" has no class ""'),
        (":MyNet", 'expected package.module:Class, got ":MyNet"'),
        ("..my_net:MyNet", 'expected package.module:Class, got "..my_net:MyNet"'),
        ("my_package.bare:NoClasses", "my_package.bare:NoClasses has no field dtype and no field num_classes"),
        ("my_package.bare:Unset", "my_package.bare:Unset has fields without a default: depths"),
    ],
)
def test_class_that_is_not_a_network_is_refused_in_one_line(folder, monkeypatch, name, message):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if not k.startswith("my_package")})
    (folder / "my_package" / "bare.py").write_text(
        "import flax.linen as nn\n"
        "class NoClasses(nn.Module):\n    width: int = 3\n"
        "class Unset(nn.Module):\n    depths: tuple\n    num_classes: int = 10\n    dtype: str = 'float32'\n"
    )
    with pytest.raises(UserError, match=r"^model\.name: ") as mistake:
        create_model(name)
    assert message in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_a_mistake_inside_the_users_module_is_not_hidden(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "my_package" / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        create_model("my_package.broken:MyNet")

"""docs/extending.md: its network trains by its config, typed as it says; and what is refused, in one line."""

import json
import re
import sys

import pytest
from common.child_processes import ROOT, experiment, finish

from jaxcnn.errors import UserError
from jaxcnn.models import create_model


@pytest.fixture
def folder(tmp_path):
    """The document's two files, under the names that it gives them."""
    network, config = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_net.py").write_text(network)
    (tmp_path / "my_config.py").write_text(config)
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_package.my_nat:MyNet", 'no module "my_package.my_nat", neither installed nor in '),
        ("your_package.my_net:MyNet", 'no module "your_package.my_net"'),
        ("my_package.my_net:MyNat", 'the module "my_package.my_net" has no class "MyNat"'),
        ("my_package.my_net:conv", "my_package.my_net:conv is not a subclass of flax.linen.Module"),
        ("my_package.my_net:", 'the module "my_package.my_net" has no class ""'),
        (":MyNet", '":MyNet" should be package.module:Class'),
        ("..my_net:MyNet", '"..my_net:MyNet" should be package.module:Class'),
        ("my_package.bare:NoClasses", "my_package.bare:NoClasses has no field dtype and no field num_classes"),
        ("my_package.bare:Unset", "my_package.bare:Unset has fields without a default: depths"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(folder, monkeypatch, name, message):
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

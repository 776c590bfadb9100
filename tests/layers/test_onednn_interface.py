"""The package has one interface, and one module depends on private details of JAX."""

import ast

import pytest
from common.child_processes import ROOT

from jaxcnn.layers import onednn

PACKAGE = ROOT / "jaxcnn" / "layers" / "onednn"
SUBMODULES = {f"{onednn.__name__}.{file.stem}" for file in PACKAGE.glob("*.py")} - {f"{onednn.__name__}.__init__"}
PRIVATE = ("jax._src", "jax.extend", "jax.interpreters")
OWN_TESTS = ("tests/layers/test_onednn_*.py", "tests/common/onednn_cases.py", "tests/layers/test_layer_norm.py")


def imported(source):
    """Returns the dotted names of all modules and objects that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def within(names, modules):
    """Returns the names that are one of the modules or inside one."""
    return {name for name in names if any(f"{name}.".startswith(f"{module}.") for module in modules)}


@pytest.mark.parametrize(
    "source",
    [
        "import jaxcnn.layers.onednn.decide",
        "from jaxcnn.layers.onednn import decide as d, convolve",
        "def f():\n    from jaxcnn.layers.onednn.decide import choice",
    ],
)
def test_import_of_a_submodule_is_found(source):
    assert within(imported(source), SUBMODULES)


def python_files(*folders):
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py")]


def test_other_files_import_only_the_package_itself():
    own_tests = [file for pattern in OWN_TESTS for file in ROOT.glob(pattern)]
    for file in python_files("jaxcnn", "experiments", "tests"):
        if PACKAGE not in file.parents and file not in own_tests:
            assert not within(imported(file.read_text("utf-8")), SUBMODULES), file


def test_every_exported_name_is_used():
    files = [file for file in python_files("jaxcnn") if PACKAGE not in file.parents]
    names = {name for file in files for name in within(imported(file.read_text("utf-8")), [onednn.__name__])}
    assert names == {f"{onednn.__name__}.{name}" for name in onednn.__all__}


def test_private_details_of_jax_are_in_one_module():
    files = [file for file in python_files("jaxcnn") if file != PACKAGE / "jax_private.py"]
    assert len(files) > 100
    for file in files:
        source = file.read_text("utf-8")
        assert not within(imported(source), PRIVATE), file
        assert not [name for name in PRIVATE if name in source], file


def test_import_of_a_private_detail_is_found():
    assert within(imported((PACKAGE / "jax_private.py").read_text("utf-8")), PRIVATE)

"""The tutorials run, their assertions hold, and what is stored of their outputs can be published."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from common.child_processes import ROOT, TIMEOUT, finish, kill, start

NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
EXECUTE = ROOT / "docs" / "execute.py"
MAX_BYTES = 600_000  # of all notebooks, figures included

notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)


def execute(notebook, folder):
    """Starts docs/execute.py as an author would, without the tests' settings of JAX."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return start(EXECUTE, notebook, cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)})


def with_code(file, *sources):
    """Writes a notebook with these code cells."""
    cells = [
        {"cell_type": "code", "id": f"cell-{index}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for index, source in enumerate(sources)
    ]
    file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), "utf-8")
    return file


def wait_until(condition):
    """Fails if it does not come true."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def ended(pid):
    """Returns whether a process has ended; one that nobody has waited for keeps its entry, without a command line."""
    try:
        return not Path("/proc", pid, "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 4


@pytest.mark.slow
@pytest.mark.process
@notebooks
def test_notebook_runs_without_warnings(notebook, tmp_path):
    stored = notebook.read_bytes()
    result = finish(execute(notebook, tmp_path))
    assert (result.code, result.err) == (0, "")
    assert notebook.read_bytes() == stored
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("source", ["assert 1 > 2, 'a claim'", "import sys; print('a claim', file=sys.stderr)"])
def test_failing_cells_and_warnings_are_reported(source, tmp_path):
    file = with_code(tmp_path / "wrong.ipynb", "1 + 1", source)
    result = finish(execute(file, tmp_path))
    assert result.code == 1
    assert str(file) in result.err
    assert "a claim" in result.err


@pytest.mark.slow
@pytest.mark.process
def test_kernel_is_the_interpreter_of_the_tests(tmp_path):
    source = f"import sys; assert (sys.executable, sys.prefix) == {(sys.executable, sys.prefix)!r}, sys.executable"
    result = finish(execute(with_code(tmp_path / "interpreter.ipynb", source), tmp_path))
    assert (result.code, result.err) == (0, "")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kernel_ends_with_its_program(tmp_path):
    pid = tmp_path / "pid"
    source = (
        f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(f'{{os.getpid()}}\\n'); time.sleep({2 * TIMEOUT})"
    )
    program = execute(with_code(tmp_path / "sleeping.ipynb", source), tmp_path)
    wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    kill(program)
    wait_until(lambda: ended(pid.read_text().strip()))


@notebooks
def test_stored_outputs_are_complete_and_name_no_machine(notebook):
    text = notebook.read_text("utf-8")
    content = json.loads(text)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/" in mime for cell in code for output in cell["outputs"] for mime in output.get("data", ()))
    assert all(cell["metadata"] == {} for cell in content["cells"])
    assert content["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for unwanted in ("/tmp", "/home/", "/root", "/usr/", "site-packages", str(ROOT), "\\u001b", "<pre"):
        assert unwanted not in text


def test_notebooks_are_small():
    assert sum(file.stat().st_size for file in NOTEBOOKS) < MAX_BYTES

"""The command `jaxcnn`, which the package installs: `jaxcnn train …` runs `python experiments/train.py …`."""

import ast
import runpy
import sys
from pathlib import Path

from jaxcnn import __version__
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.files import shipped

PROGRAMS = ("train", "evaluate", "predict", "list_models", "show_data", "prepare")


def main() -> None:
    """Runs the program named by the first argument with the remaining arguments. The program ends the process."""
    _, *arguments = sys.argv
    name, *rest = arguments or ["--help"]
    if name in ("--help", "-help", "-h", "help"):
        print(_usage())
    elif name == "--version":
        print(f"jaxcnn {__version__}")
    elif name not in PROGRAMS:
        hint = did_you_mean(name, PROGRAMS) or f"; expected one of {', '.join(PROGRAMS)}"
        print(f"error: unknown command {name!r}{hint}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    else:
        sys.argv = [f"jaxcnn {name}", *rest]
        runpy.run_path(str(_program(name)), run_name="__main__")


def _program(name: str) -> Path:
    return shipped("experiments") / f"{name}.py"


def _usage() -> str:
    """Returns the help text: all programs, each with the first line of its docstring."""
    lines = {name: (ast.get_docstring(ast.parse(_program(name).read_text("utf-8"))) or "").splitlines()[0] for name in PROGRAMS}
    commands = "\n".join(f"  {name:<12} {line.partition(':')[0].rstrip('.')}" for name, line in lines.items())
    return f"Usage: jaxcnn COMMAND [--flag=value …]\n\n{commands}\n\njaxcnn COMMAND --help shows a command's flags."

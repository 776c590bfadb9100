"""What every command line shares: absl flags and an ml_collections config in, one line and an exit code for a mistake."""

import ast
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxcnn import signals

signals.catch_early()  # before what takes a while to import
# ruff: noqa: E402
from absl import app, flags, logging
from ml_collections import ConfigDict

from jaxcnn import config as settings
from jaxcnn import start, streams
from jaxcnn.config import Config
from jaxcnn.errors import UserError, did_you_mean, explained, first_line
from jaxcnn.files import shipped

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "the experiment: FILE.py, or the name of a file in configs/; FILE.py:ARGUMENT or NAME:ARGUMENT; --config.NAME=VALUE "
    "changes a setting of it",
)


def run(main: Callable[[Sequence[str], Config | None], int | None]) -> NoReturn:
    """Parses the flags, calls `main(positional arguments, config or None)`, and exits with what it returns.

    Mistakes end in one line on stderr and the exit code of their `UserError` (2); a full disk, too little memory and signals
    end in one line as well. Only other exceptions print a traceback. After an error no thread delays the end.
    """
    try:
        streams.make_safe()
        start.use_huge_pages()
        signals.watch()
        start.prepare()
        code = _parse_and_call(main)
        sys.stdout.flush()
    except SystemExit:  # --help
        raise
    except BaseException as error:
        signals.exit_now(_report(error))
    sys.exit(code)


def _parse_and_call(main: Callable[[Sequence[str], Config | None], int | None]) -> int:
    app.define_help_flags()
    overrides: list[str] = []
    others: list[str] = []
    for argument in sys.argv:
        (overrides if argument.startswith(("--config.", "-config.")) else others).append(argument)
    positional = flags.FLAGS(others)[1:]
    _expand_home()
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.FATAL)  # orbax logs the traceback of what it raises, several times
    if overrides and not _CONFIG.value:
        raise UserError(f"{overrides[0]}: there is no --config=FILE whose setting this could change")
    return main(positional, load_config(_CONFIG.value, overrides) if _CONFIG.value else None) or 0


def _report(error: BaseException) -> int:
    """Prints what went wrong; returns the exit code."""
    if signals.by is not None or isinstance(error, KeyboardInterrupt):
        return signals.said()
    if isinstance(error, UserError):
        print(f"{error.label}: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, flags.Error):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return UserError.exit_code
    if isinstance(error, OSError) and (unwritten := streams.stdout_error()):
        if isinstance(unwritten, BrokenPipeError):  # `| head` has seen enough
            return 0
        print(f"error: standard output: {unwritten.strerror}", file=sys.stderr)
    elif line := explained(error):
        print(f"error: {line}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _expand_home() -> None:
    """A leading ~ in the values of flags is the home folder: a shell leaves the one in --workdir=~/runs as it is."""
    for name in flags.FLAGS:
        if isinstance(value := flags.FLAGS[name].value, str):
            flags.FLAGS[name].value = os.path.expanduser(value)


def load_config(file: str, overrides: Sequence[str] = ()) -> Config:
    """The checked config of `FILE.py` or `FILE.py:ARGUMENT`, changed by overrides: `--config.seed=1`.

    A name without ".py" and folder, "lenet5_digits", refers to a file in configs/, which the package contains.

    Raises:
      UserError: no such file, an error in it, an unknown setting, a value of the wrong type.
    """
    path, _, argument = file.partition(":")
    config = _get_config(_file(path), [argument] if argument else [])
    defaults = settings.flatten(settings.default_config())
    for override in overrides:
        name, equals, text = override.lstrip("-").removeprefix("config.").partition("=")
        if not equals:
            raise UserError(f"{override}: write it as --config.{name}=VALUE")
        *rooms, leaf = name.split(".")
        holder = config
        for room in rooms:
            if not isinstance(holder.get(room), ConfigDict):
                raise UserError(f"config: no setting {name!r}{did_you_mean(name, settings.declarations())}")
            holder = holder[room]
        with holder.ignore_type():  # validate() below says what is wrong with a type, and better
            holder[leaf] = _value(text, defaults.get(name, holder.get(leaf)))
    return settings.validate(config)


def _value(text: str, current: Any) -> Any:
    """`text` as the Python value that it spells: 1e-3, True, 0.5,0.5 or (0.5, 0.5); else, or for a string, itself."""
    if isinstance(current, str):
        return text
    if isinstance(current, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that it can raise
        value = tuple(text.split(",")) if isinstance(current, tuple) else text
    return (value,) if isinstance(current, tuple) and not isinstance(value, tuple | list) else value


def _file(path: str) -> Path:
    """The file itself, or the one of this name in configs/."""
    if Path(path).is_file() or path != Path(path).stem:
        return Path(path)
    named = {file.stem: file for file in shipped("configs").glob("*.py")}
    if path not in named:
        hint = did_you_mean(path, named) or f"; expected FILE.py or one of {', '.join(sorted(named))}"
        raise UserError(f"--config: no config is named {path!r}{hint}")
    return named[path]


def _get_config(path: Path, arguments: list[str]) -> ConfigDict:
    """What the file's `get_config(*arguments)` returns."""
    if not path.is_file():
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.py"))) if path.parent.is_dir() else ""
        raise UserError(f"--config: no file {str(path)!r}{near}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config: {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        try:
            inspect.signature(module.get_config).bind(*arguments)
        except TypeError:
            wrong = "takes no argument after a colon" if arguments else "needs an argument: FILE.py:ARGUMENT"
            raise UserError(f"--config: {path} {wrong}") from None
        config = module.get_config(*arguments)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong in the user's file is told by its place and its message
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        place = lines[-1] if lines else getattr(error, "lineno", 1)
        raise UserError(f"--config: {path}:{place}: {first_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config: {path}: get_config returns no ConfigDict, but {config!r}")
    return config

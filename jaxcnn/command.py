"""Code shared by all command-line programs: parsing of absl flags and configs, one-line error messages, and exit codes."""

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

signals.catch_early()  # before the imports that take long
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
    "the experiment: FILE.py or the name of a file in configs/, optionally with an argument, FILE.py:ARGUMENT or "
    "NAME:ARGUMENT; --config.SETTING=VALUE changes one of its settings",
)


def run(main: Callable[[Sequence[str], Config | None], int | None]) -> NoReturn:
    """Parses the flags, calls `main(positional arguments, config or None)`, and exits with the code that it returns.

    A `UserError` prints one line on stderr and sets its exit code (2). A full disk, a lack of memory and signals also print
    one line. Only other exceptions print a traceback. After an error, running threads do not delay the exit.
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
        logging.set_verbosity(logging.FATAL)  # orbax logs the traceback of each exception several times
    if overrides and not _CONFIG.value:
        raise UserError(f"{overrides[0]}: changes a setting of a config, but no config is given; add --config=FILE")
    return main(positional, load_config(_CONFIG.value, overrides) if _CONFIG.value else None) or 0


def _report(error: BaseException) -> int:
    """Prints the error and returns the exit code."""
    if signals.stopped_by is not None or isinstance(error, KeyboardInterrupt):
        return signals.report_stop()
    if isinstance(error, UserError):
        print(f"{error.label}: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, flags.Error):
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return UserError.exit_code
    if isinstance(error, OSError) and (stdout_error := streams.stdout_error()):
        if isinstance(stdout_error, BrokenPipeError):  # the reader, such as `| head`, has ended
            return 0
        print(f"error: standard output: {stdout_error.strerror}", file=sys.stderr)
    elif line := explained(error):
        print(f"error: {line}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    return 1


def _expand_home() -> None:
    """Replaces a leading ~ in the values of flags with the home folder, because shells do not expand it in --workdir=~/runs."""
    for name in flags.FLAGS:
        if isinstance(value := flags.FLAGS[name].value, str):
            flags.FLAGS[name].value = os.path.expanduser(value)


def load_config(file: str, overrides: Sequence[str] = ()) -> Config:
    """Returns the validated config of `FILE.py` or `FILE.py:ARGUMENT`, with overrides such as `--config.seed=1` applied.

    A name without a folder and ".py", such as "lenet5_digits", refers to a file in configs/, which the package includes.

    Raises:
      UserError: if the file does not exist or fails, if a setting is unknown, or if a value has the wrong type.
    """
    path, _, argument = file.partition(":")
    config = _get_config(_file(path), [argument] if argument else [])
    defaults = settings.flatten(settings.default_config())
    for override in overrides:
        name, equals, text = override.lstrip("-").removeprefix("config.").partition("=")
        if not equals:
            raise UserError(f"{override}: write it as --config.{name}=VALUE")
        *sections, field = name.split(".")
        section = config
        for section_name in sections:
            if not isinstance(section.get(section_name), ConfigDict):
                raise UserError(f"config: no setting {name!r}{did_you_mean(name, settings.declarations())}")
            section = section[section_name]
        with section.ignore_type():  # validate() below checks types with better messages
            section[field] = _value(text, defaults.get(name, section.get(field)))
    return settings.validate(config)


def _value(text: str, current: Any) -> Any:
    """Parses `text` as a literal: 1e-3, True, 0.5,0.5 or (0.5, 0.5). For string settings and other text, returns `text`."""
    if isinstance(current, str):
        return text
    if isinstance(current, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all exceptions of literal_eval
        value = tuple(text.split(",")) if isinstance(current, tuple) else text
    return (value,) if isinstance(current, tuple) and not isinstance(value, tuple | list) else value


def _file(path: str) -> Path:
    """Returns the path of the config: `path` itself, or the file with this name in configs/."""
    if Path(path).is_file() or path != Path(path).stem:
        return Path(path)
    named = {file.stem: file for file in shipped("configs").glob("*.py")}
    if path not in named:
        hint = did_you_mean(path, named) or f"; expected FILE.py or one of {', '.join(sorted(named))}"
        raise UserError(f"--config: no config is named {path!r}{hint}")
    return named[path]


def _get_config(path: Path, arguments: list[str]) -> ConfigDict:
    """Executes the file and returns the result of its `get_config(*arguments)`."""
    if not path.is_file():
        hint = did_you_mean(path.name, (p.name for p in path.parent.glob("*.py"))) if path.parent.is_dir() else ""
        raise UserError(f"--config: no file {str(path)!r}{hint}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config: {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        try:
            inspect.signature(module.get_config).bind(*arguments)
        except TypeError:
            problem = "accepts no argument after a colon" if arguments else "needs an argument: FILE.py:ARGUMENT"
            raise UserError(f"--config: {path} {problem}") from None
        config = module.get_config(*arguments)
    except UserError:
        raise
    except Exception as error:  # any error in the user's file is reported with its line and message
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).resolve() == path.resolve()
        ]
        line = lines[-1] if lines else getattr(error, "lineno", 1)
        raise UserError(f"--config: {path}:{line}: {first_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config: {path}: get_config should return a ConfigDict, but returned {config!r}")
    return config

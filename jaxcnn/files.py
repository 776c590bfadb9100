"""Files that commands and runs read and write: whole or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxcnn.errors import UserError


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path as a user writes it: a leading ~ is the home folder. A shell leaves the one in --workdir=~/runs as it is."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises RuntimeError where there is no such user


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or, if it is interrupted, none; it is on the disk when this returns.

    What UTF-8 can't hold (a file name that is none) becomes "?".
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Returns once the folder's list of names is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems can't, and need not
        pass
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | None:
    """The text of a file, or None where there is none. Bytes that are not UTF-8 become "\\ufffd".

    Raises:
      UserError: it is a folder, or can't be read now.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def read_values(path: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none. Anything else, or nothing, in the file counts as none, and is said."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not values:
        warn(f"{path}: not what a run writes there (damaged, empty or another program's); it is ignored")
        return {}
    return values


def shipped(folder: str) -> Path:
    """A folder that lies beside the package in the repository, and in it when it was installed from a wheel."""
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder

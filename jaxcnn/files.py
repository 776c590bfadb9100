"""Reading and writing of files; a file is written completely or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxcnn.errors import UserError


def user_path(text: str | os.PathLike[str]) -> Path:
    """Returns a path written by a user, with a leading ~ expanded: shells do not expand it in --workdir=~/runs."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises RuntimeError for an unknown user


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: if interrupted, the old file remains. The data are synced to disk before this returns.

    Characters that UTF-8 cannot encode (from file names that are not valid UTF-8) are replaced with "?".
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
    """Syncs the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems do not support this and do not need it
        pass
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | None:
    """Returns the text of a file, or None if it does not exist. Bytes that are not UTF-8 become "\\ufffd".

    Raises:
      UserError: if the path is a folder, or if the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error


def read_values(path: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    """Returns the JSON object in a file, or {} if there is no such file. Any other content is ignored with a warning."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not values:
        warn(f"{path}: ignored, because it is empty, damaged or was not written by a run")
        return {}
    return values


def shipped(folder: str) -> Path:
    """Returns the path of a folder that is next to the package in the repository, or inside the package in a wheel."""
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder

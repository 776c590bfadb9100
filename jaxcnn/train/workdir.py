"""The folder of a run: held by one live run at a time, and belonging to one config."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from jaxcnn import config as settings
from jaxcnn.errors import UserError


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it; another live run's is refused. The lock goes with the process, however it ends.

    Of a run that is refused before it wrote anything, no new folder is left.
    """
    new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"--workdir: {workdir} can't be written ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise UserError(f"--workdir: {workdir} is in use by another run, process {holder}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        except BaseException:
            if new and os.listdir(workdir) == [".lock"]:
                (workdir / ".lock").unlink()
                workdir.rmdir()
            raise


def check_config(workdir: Path, config: ConfigDict) -> None:
    """Refuses a folder that holds a run with another config, and says what differs.

    A run that came to no checkpoint holds nothing that could be lost.
    """
    path = workdir / "config.json"
    begun = (workdir / "summary.json").exists() or any((workdir / "checkpoints").glob("[0-9]*"))
    if begun and path.exists() and (different := settings.differences(settings.from_json(path.read_text()), config)):
        raise UserError(
            f"--workdir: {workdir} holds a run with another config ({'; '.join(different)}); "
            "take another folder, or the same settings"
        )


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or, if it is interrupted, none."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

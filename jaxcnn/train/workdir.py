"""The folder of a run: it is locked by the running process, and checked for files that are in the way of the run's files."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from jaxcnn.errors import UserError


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Creates the folder if necessary and locks it. The lock is released when the process ends for any reason.

    If the run fails before it has written anything, a new folder is removed.

    Raises:
      UserError: if another running process has locked the folder, or if the folder can't be written.
    """
    new, lock = not workdir.exists(), workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        acquired = FileLock(lock, timeout=0).acquire()
    except Timeout:
        process = lock.read_text().strip() or "unknown"
        raise UserError(f"--workdir: {workdir} is in use by another run (process {process})") from None
    except OSError as error:
        raise UserError(f"--workdir: {workdir} can't be written ({error.strerror})") from error
    with acquired:
        lock.write_text(str(os.getpid()))
        try:
            yield
        except BaseException:
            if new and os.listdir(workdir) == [".lock"]:
                lock.unlink()
                workdir.rmdir()
            raise


def check_paths(workdir: Path) -> None:
    """Raises UserError if paths at which the run writes files or folders are of another type or not writable."""
    for name in ("config.json", "metrics.jsonl", "summary.json", "report.html"):
        if (workdir / name).is_dir():
            raise UserError(f"--workdir: {workdir / name} is a folder, but the run writes a file with this name; move it away")
    for name in ("checkpoints", "tensorboard"):
        path = workdir / name
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"--workdir: {path} is a broken symbolic link, but the run needs a folder with this name; remove it"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"--workdir: {path} is a file, but the run needs a folder with this name; move it away")
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise UserError(f"--workdir: {path} can't be written (permission denied)")

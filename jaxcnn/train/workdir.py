"""The folder of a run: held by one live run at a time, with nothing else in the places that the run writes to."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from jaxcnn.errors import UserError


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it; another live run's is refused. The lock goes with the process, however it ends.

    Of a run that is refused before it wrote anything, no new folder is left.
    """
    new, lock = not workdir.exists(), workdir / ".lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held_lock = FileLock(lock, timeout=0).acquire()
    except Timeout:
        holder = lock.read_text().strip() or "unknown"
        raise UserError(f"--workdir: {workdir} is in use by another run, process {holder}") from None
    except OSError as error:
        raise UserError(f"--workdir: {workdir} can't be written ({error.strerror})") from error
    with held_lock:
        lock.write_text(str(os.getpid()))
        try:
            yield
        except BaseException:
            if new and os.listdir(workdir) == [".lock"]:
                lock.unlink()
                workdir.rmdir()
            raise


def check_paths(workdir: Path) -> None:
    """Refuses a folder in which something else stands where the run writes its files and folders."""
    for name in ("config.json", "metrics.jsonl", "summary.json", "report.html"):
        if (workdir / name).is_dir():
            raise UserError(f"--workdir: {workdir / name} is a folder, where the run writes a file; move it away")
    for name in ("checkpoints", "tensorboard"):
        path = workdir / name
        if path.is_symlink() and not path.exists():
            raise UserError(f"--workdir: {path} is a link to nothing; the run keeps a folder there")
        if path.exists() and not path.is_dir():
            raise UserError(f"--workdir: {path} is a file, where the run keeps a folder; move it away")
        if path.exists() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise UserError(f"--workdir: {path} can't be written (permission denied)")

"""Failures of a run that are not caused by its settings: a full disk, a lack of memory, and other errors of the system."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jaxcnn.errors import RunFailed, UserError, explained


@contextlib.contextmanager
def explain_failures(workdir: Path) -> Iterator[None]:
    """Converts errors of the operating system and a lack of memory to `RunFailed`, which names the latest checkpoint."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (reason := explained(error, workdir)) is None:
            raise
        raise RunFailed(f"{reason}; {_latest_checkpoint(workdir)}") from error


def _latest_checkpoint(workdir: Path) -> str:
    # orbax gives a checkpoint this name only after it is completely written
    steps = [int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
    if not steps:
        return "no checkpoint had been written"
    return f"the checkpoint of step {max(steps):,} is intact; run the same command again to resume from it"

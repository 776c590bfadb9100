"""What can end a run and is no mistake in its settings: a full disk, too little memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from jaxcnn.errors import RunFailed, UserError, explained


@contextlib.contextmanager
def accidents_in(workdir: Path) -> Iterator[None]:
    """Raises `RunFailed`, which says what is kept, for what the operating system or a lack of memory caused."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (reason := explained(error, workdir)) is None:
            raise
        raise RunFailed(f"{reason}; {_kept(workdir)}") from error


def _kept(workdir: Path) -> str:
    # orbax gives a checkpoint this name when all of it is written
    steps = [int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
    if not steps:
        return "no checkpoint had been written"
    return f"the checkpoint of step {max(steps):,} is intact; run the same command again to resume from it"

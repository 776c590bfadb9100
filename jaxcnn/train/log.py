"""What a run says while it goes: progress on a terminal, plain lines elsewhere, metrics.jsonl, TensorBoard events."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxcnn.evaluate import finite
from jaxcnn.files import read_text, write_text

Row = Mapping[str, float]


class RunLog:
    """The rows of metrics.jsonl, on disk and as `history`; and everything else that follows a run."""

    def __init__(self, workdir: Path, *, total_steps: int, step: int, history: Sequence[Row], console: Console):
        """Starts with the rows `history`, up to `step`."""
        self.console = console
        self.history = list(history)
        path = workdir / "metrics.jsonl"
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.history))
        self._file = path.open("a", encoding="utf-8")
        self._events = _Events(workdir / "tensorboard", step + 1)
        self._progress = Progress(
            TextColumn("[bold]training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("training", total=total_steps, completed=step)

    def __enter__(self) -> "RunLog":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._file.close()
        self._events.close()

    def row(self, row: Row) -> None:
        """One row of metrics; {"step", "epoch", …}."""
        self.history.append(dict(row))
        self._file.write(json.dumps(finite(row)) + "\n")
        self._file.flush()
        self._events.write(row)
        self.say(
            f"step {row['step']:>6}  epoch {row['epoch']:>6.2f}  "
            + "  ".join(f"{_short(name)} {_figure(value)}" for name, value in row.items() if name not in ("step", "epoch"))
        )

    def progress(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """One line."""
        say(self.console, text)


class _Events:
    """The file for TensorBoard. The thread of a SummaryWriter would end with its first error, and its queue would block."""

    def __init__(self, folder: Path, purge_step: int):
        """Readers hide earlier events from `purge_step` on."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._writer.write_event(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, row: Row) -> None:
        for name, value in row.items():
            if name not in ("step", "epoch"):
                room = next((r for r in ("train", "validation") if name.startswith(r)), "run")
                summary = self._scalar(f"{room}/{name.removeprefix(room + '_')}", value)
                self._writer.write_event(self._event(wall_time=time.time(), step=int(row["step"]), summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def say(console: Console, text: str) -> None:
    """One line, as it is: not wrapped, no markup read into it."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def read_history(workdir: Path, warn: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl. Lines that are none are left out, and counted; a last one cut off by a kill is no loss."""
    path = workdir / "metrics.jsonl"
    lines = (read_text(path) or "").split("\n")[:-1]
    rows = [row for line in lines if (row := _row(line)) is not None]
    if len(rows) < len(lines):
        warn(f"{path}: {len(lines) - len(rows)} of {len(lines)} lines are no rows of metrics; they are left out")
    return rows


def _row(line: str) -> dict[str, Any] | None:
    """{"step", "epoch", figures…} of one line; None where it is anything else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int or "epoch" not in row:
        return None
    row = {name: math.nan if value is None else value for name, value in row.items()}  # JSON has no NaN
    return row if all(type(value) in (int, float) for value in row.values()) else None


def resumed_history(
    rows: Sequence[Row], step: int, evaluations: Sequence[Row] | None, warn: Callable[[str], None]
) -> list[Row]:
    """The rows of metrics.jsonl for a run resumed at `step`; its evaluations are as its checkpoint has them, unless None.

    Rows of later steps are forgotten: they will come again.
    """
    rows = [row for row in rows if row["step"] <= step]
    if evaluations is None:
        return rows
    if missing := sum(row not in rows for row in evaluations):
        warn(f"metrics.jsonl: {missing} evaluations are not there, and taken from the checkpoint")
    rows = [*(row for row in rows if not is_evaluation(row)), *evaluations]
    return sorted(rows, key=lambda row: (row["step"], is_evaluation(row)))


def is_evaluation(row: Row) -> bool:
    """Whether it is of an evaluation on the validation set, not of training."""
    return any(name.startswith("validation_") for name in row)


def _short(name: str) -> str:
    return {"learning_rate": "lr", "gradient_norm": "|g|", "images_per_second": "img/s", "data_wait_share": "wait"}.get(
        name, name.replace("_", " ")
    )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"

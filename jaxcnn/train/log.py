"""Logging of a run: log lines, a progress bar on terminals, metrics.jsonl, and TensorBoard events."""

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
    """Writes rows of metrics to metrics.jsonl, TensorBoard and the console, and keeps them in `history`."""

    def __init__(self, workdir: Path, *, total_steps: int, step: int, history: Sequence[Row], console: Console):
        """Rewrites metrics.jsonl with the rows `history`, which lead up to `step`."""
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
        """Adds a row of metrics: {"step", "epoch", …}."""
        self.history.append(dict(row))
        self._file.write(json.dumps(finite(row)) + "\n")
        self._file.flush()
        self._events.write(row)
        self.say(
            f"step {row['step']:>6}  epoch {row['epoch']:>6.2f}  "
            + "  ".join(
                f"{_label(name)} {_formatted(name, value)}" for name, value in row.items() if name not in ("step", "epoch")
            )
        )

    def progress(self, step: int) -> None:
        """Updates the progress bar."""
        self._progress.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """Prints one line."""
        say(self.console, text)


class _Events:
    """Writes TensorBoard events. After an error, a SummaryWriter would block the run: its thread ends and its queue fills."""

    def __init__(self, folder: Path, purge_step: int):
        """Makes readers discard events of earlier files from `purge_step` on."""
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
                group = next((prefix for prefix in ("train", "validation") if name.startswith(prefix)), "run")
                summary = self._scalar(f"{group}/{name.removeprefix(group + '_')}", value)
                self._writer.write_event(self._event(wall_time=time.time(), step=int(row["step"]), summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def say(console: Console, text: str) -> None:
    """Prints one line verbatim, without wrapping, markup or highlighting."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def read_history(workdir: Path, warn: Callable[[str], None] = lambda text: None) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl. Skips an incomplete last line and, with a warning, invalid lines."""
    path = workdir / "metrics.jsonl"
    lines = (read_text(path) or "").split("\n")[:-1]
    rows = [row for line in lines if (row := _row(line)) is not None]
    if len(rows) < len(lines):
        warn(f"{path}: ignored {len(lines) - len(rows)} of {len(lines)} lines that are not rows of metrics")
    return rows


def _row(line: str) -> dict[str, Any] | None:
    """Returns the row {"step", "epoch", metrics…} of one line, or None if the line is not valid."""
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
    """Returns the rows of metrics.jsonl up to `step`, at which a run is resumed. Rows of later steps will be written again.

    The evaluations are replaced by those stored in the checkpoint (earlier versions stored none: None).
    """
    rows = [row for row in rows if row["step"] <= step]
    if evaluations is None:
        return rows
    if missing := sum(row not in rows for row in evaluations):
        warn(f"metrics.jsonl: {missing} missing evaluations were restored from the checkpoint")
    rows = [*(row for row in rows if not is_evaluation(row)), *evaluations]
    return sorted(rows, key=lambda row: (row["step"], is_evaluation(row)))


def is_evaluation(row: Row) -> bool:
    """Returns whether a row contains the metrics of an evaluation on the validation set, not of training steps."""
    return any(name.startswith("validation_") for name in row)


_LABELS = {
    "learning_rate": "lr",
    "gradient_norm": "grad norm",
    "images_per_second": "images/s",
    "data_wait_share": "data wait",
}


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").replace("top5", "top-5"))


def _formatted(name: str, value: float) -> str:
    if name == "data_wait_share":
        return f"{value:.1%}"
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"

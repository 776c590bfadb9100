"""What a run says while it goes: progress on a terminal, plain lines elsewhere, metrics.jsonl, TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jaxcnn.evaluate import finite
from jaxcnn.train.workdir import write_text

Row = Mapping[str, float]


class RunLog:
    """The rows of metrics.jsonl, on disk and as `history`; and everything else that follows a run."""

    def __init__(self, workdir: Path, *, total_steps: int, step: int, console: Console):
        """A run resumed at `step` forgets the rows that came after it: they will come again."""
        from tensorboardX import SummaryWriter

        self.console = console
        self.history = [row for row in read_history(workdir) if row["step"] <= step]
        path = workdir / "metrics.jsonl"
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.history))
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
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
        for name, value in row.items():
            if name not in ("step", "epoch"):
                room = next((r for r in ("train", "validation") if name.startswith(r)), "run")
                self._events.add_scalar(f"{room}/{name.removeprefix(room + '_')}", value, row["step"])
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


def say(console: Console, text: str) -> None:
    """One line, as it is: not wrapped, no markup read into it."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line cut off by a kill is left out."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _short(name: str) -> str:
    return {"learning_rate": "lr", "gradient_norm": "|g|", "images_per_second": "img/s", "data_wait_share": "wait"}.get(
        name, name.replace("_", " ")
    )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.4g}"

"""The training steps between two rows of metrics.jsonl, and the watch over their loss."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxcnn.tasks.task import Metrics
from jaxcnn.train.log import Row

_NOT_SUMMED = ("learning_rate",)  # the last value counts


@dataclasses.dataclass
class Interval:
    """Sums over the training steps since the last row; goes into checkpoints, so that a resumed run's rows are equal."""

    steps: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """of each metric, over the steps that have it"""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """how many steps those are: a phase may be skipped"""
    learning_rate: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Interval":
        """What a checkpoint holds; checkpoints of earlier versions have a classifier's sums at the top level."""
        if "sums" in values or not values:
            return cls(**values)
        names, others = ("loss", "accuracy", "gradient_norm"), ("steps", "learning_rate", "seconds", "waited")
        sums = {name: values[name] for name in names} if values["steps"] else {}
        return cls(**{name: values[name] for name in others}, sums=sums, counts=dict.fromkeys(sums, values["steps"]))

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dataclasses.asdict(self)

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Adds steps, by the values (n,) of their metrics."""
        self.steps += len(metrics["learning_rate"])
        self.learning_rate = float(metrics["learning_rate"][-1])
        for name in [name for name in metrics if name not in _NOT_SUMMED]:
            present = metrics[name][~np.isnan(metrics[name])]
            self.sums[name] = self.sums.get(name, 0.0) + float(present.sum())
            self.counts[name] = self.counts.get(name, 0) + len(present)

    def row(self, batch_size: int) -> Row:
        """The row of metrics.jsonl: means over the steps; the learning rate of the last."""
        means = {name: total / self.counts[name] if self.counts[name] else np.nan for name, total in self.sums.items()}
        norm = means.pop("gradient_norm")
        return {
            **{f"train_{name}": mean for name, mean in means.items()},
            "learning_rate": self.learning_rate,
            "gradient_norm": norm,
            "images_per_second": self.steps * batch_size / max(self.seconds, 1e-9),
            "data_wait_share": min(self.waited / max(self.seconds, 1e-9), 1.0),
        }


def metrics_of(calls: Sequence[tuple[Metrics, int]]) -> dict[str, np.ndarray]:
    """The metrics (n,) float64 of all steps of some calls, each with its number of steps; waits for them.

    The arrays of a call may have room for more steps.
    """
    of_calls = [
        {name: values[:count] for name, values in metrics.items()}
        for metrics, count in zip(jax.device_get([metrics for metrics, _ in calls]), (count for _, count in calls), strict=True)
    ]
    return {name: np.concatenate([of_call[name] for of_call in of_calls]).astype(np.float64) for name in of_calls[0]}


def first_not_finite(metrics: Mapping[str, np.ndarray], *, loss: bool = True) -> int | None:
    """Which of the steps is the first whose gradient norm or (if `loss` is to be watched) loss is not finite."""
    finite = np.isfinite(metrics["gradient_norm"])
    if loss and "loss" in metrics:
        finite &= np.isfinite(metrics["loss"])
    return None if finite.all() else int(np.argmin(finite))


def not_finite(metrics: Mapping[str, np.ndarray], bad: int, step: int, history: Sequence[Row]) -> str:
    """What to say of step number `step`, whose metrics are at `bad`: how they are, and what was last finite."""

    def text(at: int) -> str:
        loss = f"the loss {{was}} {metrics['loss'][at]:.4g}, " if "loss" in metrics else ""
        return f"{loss}the gradient's norm {{was}} {metrics['gradient_norm'][at]:.4g}"

    if bad:
        last = f"at step {step - 1} {text(bad - 1).format(was='was')}"
    elif rows := [row for row in history if "train_loss" in row]:
        last = f"up to step {rows[-1]['step']} the mean loss was {rows[-1]['train_loss']:.4g}"
    else:
        last = "it never was finite"
    return f"step {step}: {text(bad).format(was='is')}; {last}"

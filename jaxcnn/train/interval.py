"""Metrics of the training steps between two rows of metrics.jsonl, and the detection of values that are not finite."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxcnn.tasks.task import Metrics
from jaxcnn.train.log import Row

_NOT_SUMMED = ("learning_rate",)  # its last value is reported


@dataclasses.dataclass
class Interval:
    """Sums over the training steps since the last row. They are saved in checkpoints, so a resumed run writes the same rows."""

    steps: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    """sum of each metric over the steps in which it is not NaN"""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """number of those steps, which is smaller than `steps` for a phase that is skipped in some"""
    learning_rate: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Interval":
        """Reads the interval stored in a checkpoint. Earlier versions stored the sums of a classifier at the top level."""
        if "sums" in values or not values:
            return cls(**values)
        metrics, others = ("loss", "accuracy", "gradient_norm"), ("steps", "learning_rate", "seconds", "waited")
        sums = {name: values[name] for name in metrics} if values["steps"] else {}
        return cls(**{name: values[name] for name in others}, sums=sums, counts=dict.fromkeys(sums, values["steps"]))

    def to_json(self) -> dict[str, Any]:
        """Returns the values to be stored in a checkpoint."""
        return dataclasses.asdict(self)

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Adds n steps, given the values (n,) of each metric."""
        self.steps += len(metrics["learning_rate"])
        self.learning_rate = float(metrics["learning_rate"][-1])
        for name in [name for name in metrics if name not in _NOT_SUMMED]:
            present = metrics[name][~np.isnan(metrics[name])]
            self.sums[name] = self.sums.get(name, 0.0) + float(present.sum())
            self.counts[name] = self.counts.get(name, 0) + len(present)

    def row(self, batch_size: int) -> Row:
        """Returns the row of metrics.jsonl: means over the steps, and the learning rate of the last step."""
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
    """Waits for `calls`, pairs (metrics, number of steps), and returns each metric of all n steps as float64 (n,).

    Only the first values of each array, as many as the call has steps, are valid.
    """
    counts = [count for _, count in calls]
    valid = [
        {name: values[:count] for name, values in metrics.items()}
        for metrics, count in zip(jax.device_get([metrics for metrics, _ in calls]), counts, strict=True)
    ]
    return {name: np.concatenate([metrics[name] for metrics in valid]).astype(np.float64) for name in valid[0]}


def first_not_finite(metrics: Mapping[str, np.ndarray], *, loss: bool = True) -> int | None:
    """Returns the index of the first step whose gradient norm (or loss, if `loss`) is not finite, or None if all are finite."""
    finite = np.isfinite(metrics["gradient_norm"])
    if loss and "loss" in metrics:
        finite &= np.isfinite(metrics["loss"])
    return None if finite.all() else int(np.argmin(finite))


def describe_not_finite(metrics: Mapping[str, np.ndarray], index: int, step: int, history: Sequence[Row]) -> str:
    """Describes step number `step`, whose metrics at `index` are not finite, and the last finite values before it."""

    def values(index: int, verb: str) -> str:
        loss = f"the loss {verb} {metrics['loss'][index]:.4g} and " if "loss" in metrics else ""
        return f"{loss}the gradient norm {verb} {metrics['gradient_norm'][index]:.4g}"

    if index:
        before = f"at step {step - 1:,} {values(index - 1, 'was')}"
    elif rows := [row for row in history if "train_loss" in row]:
        before = f"up to step {rows[-1]['step']:,} the mean loss was {rows[-1]['train_loss']:.4g}"
    else:
        before = "there is no earlier finite value"
    return f"step {step:,}: {values(index, 'is')}; {before}"

"""The training steps between two rows of metrics.jsonl, and the watch over their loss."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxcnn.errors import RunFailed
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.log import Row


@dataclasses.dataclass
class Interval:
    """Sums over the training steps since the last row; goes into checkpoints, so that a resumed run's rows are equal."""

    steps: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, pending: Sequence[tuple[dict, int]], step: int, history: Sequence[Row], checkpoints: Checkpoints) -> None:
        """Adds the steps up to `step`, waiting for them; RunFailed if one's loss or gradient is not finite.

        `pending` has the metrics of each call, and of how many steps they are: arrays may have room for more.
        """
        if not pending:
            return
        of_calls, counts = zip(*pending, strict=True)
        rows = jax.device_get(of_calls)
        metrics = {
            name: np.concatenate([row[name][:count] for row, count in zip(rows, counts, strict=True)]).astype(np.float64)
            for name in rows[0]
        }
        finite = np.isfinite(metrics["loss"]) & np.isfinite(metrics["gradient_norm"])
        if not finite.all():
            bad = int(np.argmin(finite))
            _fail_not_finite(metrics, bad, step - len(finite) + bad + 1, history, checkpoints)
        self.steps += len(finite)
        for name in ("loss", "accuracy", "gradient_norm"):
            setattr(self, name, getattr(self, name) + float(metrics[name].sum()))
        self.learning_rate = float(metrics["learning_rate"][-1])

    def row(self, batch_size: int) -> Row:
        """The row of metrics.jsonl: means over the steps; the learning rate of the last."""
        return {
            "train_loss": self.loss / self.steps,
            "train_accuracy": self.accuracy / self.steps,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm / self.steps,
            "images_per_second": self.steps * batch_size / max(self.seconds, 1e-9),
            "data_wait_share": min(self.waited / max(self.seconds, 1e-9), 1.0),
        }


def _fail_not_finite(
    metrics: Mapping[str, np.ndarray], bad: int, step: int, history: Sequence[Row], checkpoints: Checkpoints
) -> None:
    """Stops the run: where, what was last finite, what to try."""
    if bad:
        loss, norm = metrics["loss"][bad - 1], metrics["gradient_norm"][bad - 1]
        last = f"at step {step - 1} the loss was {loss:.4g}, the gradient's norm {norm:.4g}"
    elif rows := [row for row in history if "train_loss" in row]:
        last = f"up to step {rows[-1]['step']} the mean loss was {rows[-1]['train_loss']:.4g}"
    else:
        last = "it never was finite"
    checkpoints.wait()
    kept = f"the checkpoint of step {checkpoints.steps()[-1]} is kept" if checkpoints.steps() else "no checkpoint was due yet"
    checkpoints.close()
    raise RunFailed(
        f"step {step}: the loss is {metrics['loss'][bad]:g}, the gradient's norm {metrics['gradient_norm'][bad]:g}; "
        f"{last}; {kept}. Try a lower optimizer.learning_rate, a longer schedule.warmup, optimizer.clip_norm=1, "
        "or model.dtype=float32"
    )

"""Which parameters of a run are the best, by the evaluations on the validation set; and whether it should stop early."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxcnn.tasks.task import Quantity
from jaxcnn.train.log import Row


class Selection(NamedTuple):
    """How the rows of evaluations are compared."""

    quantity: Quantity | None
    """None: no evaluation is better than another"""
    patience: int = 0
    """evaluations without an improvement after which training stops; 0 = never"""
    min_delta: float = 0.0
    """the least improvement"""

    def score(self, row: Row) -> float | None:
        """The quantity of a row, the moving average's where it has one; larger is better. None for a row without it."""
        if self.quantity is None:
            return None
        name = self.quantity.name
        value = row.get(f"validation_ema_{name}", row.get(f"validation_{name}"))
        if value is None or math.isnan(value):
            return None if value is None else -math.inf
        return value if self.quantity.better == "higher" else -value

    def best_step(self, history: Sequence[Row]) -> int | None:
        """The step of the best evaluation, the first of equals; None where there was none."""
        scores = [(score, -int(row["step"])) for row in history if (score := self.score(row)) is not None]
        return -max(scores)[1] if scores else None

    def stopped_early(self, history: Sequence[Row]) -> bool:
        """Whether the last `patience` evaluations brought nothing better by more than `min_delta`."""
        best, since = -math.inf, 0
        for row in history:
            if (score := self.score(row)) is not None:
                best, since = (score, 0) if score > best + self.min_delta else (best, since + 1)
        return bool(self.patience) and since >= self.patience

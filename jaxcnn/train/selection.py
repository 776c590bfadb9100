"""Selection of the best step by the evaluations on the validation set, and early stopping."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxcnn.tasks.task import Quantity
from jaxcnn.train.log import Row


class Selection(NamedTuple):
    """The criterion by which the rows of evaluations are compared."""

    quantity: Quantity | None
    """None: evaluations are not compared"""
    patience: int = 0
    """number of evaluations without improvement after which training stops; 0 = never"""
    min_delta: float = 0.0
    """minimum improvement that counts"""

    def score(self, row: Row) -> float | None:
        """Returns the quantity of a row (of the moving average if present), negated if lower is better; None for other rows."""
        if self.quantity is None:
            return None
        name = self.quantity.name
        value = row.get(f"validation_ema_{name}", row.get(f"validation_{name}"))
        if value is None or math.isnan(value):
            return None if value is None else -math.inf
        return value if self.quantity.better == "higher" else -value

    def best_step(self, history: Sequence[Row]) -> int | None:
        """Returns the step of the best evaluation (the first of equal ones), or None without evaluations."""
        scores = [(score, -int(row["step"])) for row in history if (score := self.score(row)) is not None]
        return -max(scores)[1] if scores else None

    def stopped_early(self, history: Sequence[Row]) -> bool:
        """Returns whether none of the last `patience` evaluations improved the best by more than `min_delta`."""
        best, since = -math.inf, 0
        for row in history:
            if (score := self.score(row)) is not None:
                best, since = (score, 0) if score > best + self.min_delta else (best, since + 1)
        return bool(self.patience) and since >= self.patience

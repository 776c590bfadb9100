"""What a task measures, as tables, curves and pages show it."""

from typing import Literal, NamedTuple


class Quantity(NamedTuple):
    """A result of evaluation, as a person reads it."""

    name: str
    """"mean_iou" is validation_mean_iou in the rows of metrics.jsonl and test_mean_iou in summary.json."""
    label: str
    form: str = "{:.4f}"
    """As str.format takes it: "{:.2%}" for shares."""
    better: Literal["higher", "lower", ""] = ""
    """Whether checkpoints can be selected by it."""

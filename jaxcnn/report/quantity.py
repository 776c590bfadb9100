"""The metrics of a task, and how tables, curves and pages show them."""

from typing import Literal, NamedTuple


class Quantity(NamedTuple):
    """One metric: its name in files, its label for readers, its number format, and whether it can select checkpoints."""

    name: str
    """"mean_iou" becomes validation_mean_iou in the rows of metrics.jsonl and test_mean_iou in summary.json."""
    label: str
    form: str = "{:.4f}"
    """A format string for str.format, such as "{:.2%}" for shares."""
    better: Literal["higher", "lower", ""] = ""
    """Which values are better; "" if checkpoints can't be selected by it."""

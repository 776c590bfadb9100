"""The table of results that is printed at the end of a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxcnn.report.quantity import Quantity


def results_table(summary: Mapping[str, Any], quantities: Iterable[Quantity]) -> str:
    """Returns the metrics, time and speed in a summary.json as lines with two columns; missing entries are left out."""
    rows = [
        (f"{split} {quantity.label}", f"{split}_{quantity.name}", quantity.form)
        for split in ("train", "validation", "test")
        for quantity in quantities
    ] + [
        ("epochs", "epochs", "{:.4g}"),
        ("time", "wall_seconds", "{:.1f} s"),
        ("compile time", "compile_seconds", "{:.1f} s"),
        ("images/s", "images_per_second", "{:,.0f}"),
    ]
    shown = [(label, _text(form, summary[key])) for label, key, form in rows if key in summary]
    width = max([26, *(len(label) + 1 for label, _ in shown)])
    return "\n".join(f"{label:<{width}}{text:>12}" for label, text in shown)


def _text(form: str, value: float | None) -> str:
    return "not finite" if value is None else form.format(value)

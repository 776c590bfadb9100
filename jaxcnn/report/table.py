"""The few figures of a result that are printed at its end."""

from collections.abc import Mapping
from typing import Any


def results_table(summary: Mapping[str, Any]) -> str:
    """Accuracy, loss, time and speed of a summary.json, two columns; what it does not hold is left out."""
    rows = [
        (f"{split} {label}", f"{split}_{key}", form)
        for split in ("train", "validation", "test")
        for label, key, form in (
            ("accuracy", "accuracy", "{:.2%}"),
            ("top-5 accuracy", "top5_accuracy", "{:.2%}"),
            ("loss", "loss", "{:.4f}"),
            ("examples", "examples", "{:,}"),
        )
    ] + [
        ("epochs", "epochs", "{:.4g}"),
        ("time", "wall_seconds", "{:.1f} s"),
        ("of it compiling", "compile_seconds", "{:.1f} s"),
        ("images/s", "images_per_second", "{:,.0f}"),
    ]
    return "\n".join(f"{label:<26}{_text(form, summary[key]):>12}" for label, key, form in rows if key in summary)


def _text(form: str, value: float | None) -> str:
    return "not finite" if value is None else form.format(value)

"""Formats the benchmark's rows as Markdown tables, for the terminal and for docs/performance.md."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark_process import Row

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "results" / "benchmarks"

_RATES = ("images_per_second", "peak_share", "peak_bytes", "compile_seconds")
_TORCH = ("torch_images_per_second", "ratio", "torch_peak_bytes", "torch_compile_images_per_second", "compile_ratio")
COLUMNS = {
    "jpeg": ("images_per_second", "images_per_cpu_second", "ratio", "wall_ratio"),
    "cifar": ("seconds", "cpu_seconds", "share", "cpu_share"),
    "memory": ("peak_bytes", "grown_bytes", "load_seconds", "first_batch_seconds", "statistics_seconds"),
    "forward": _RATES + _TORCH,
    "train": _RATES + _TORCH,
    "start": ("cold_seconds", "cached_seconds"),
    "import": ("seconds",),
}
"""The part of a suite that a table shows -> its columns."""


def table(rows: Sequence[Row]) -> str:
    """Returns one table per part, with medians and their ranges. Columns without any value are left out."""
    lines = []
    for part, figures in COLUMNS.items():
        of_part = [row for row in rows if _part(row) == part]
        shown = [figure for figure in figures if any(row.get(figure) is not None for row in of_part)]
        if of_part:
            lines += ["", f"| {part} | {' | '.join(figure.replace('_', ' ') for figure in shown)} |"]
            lines += ["|---" * (len(shown) + 1) + "|"]
            lines += [f"| {_name(row)} | {' | '.join(_cell(row, figure) for figure in shown)} |" for row in of_part]
    return "\n".join(lines[1:])


def page(text: str) -> tuple[str, list[str]]:
    """Returns docs/performance.md with its marked tables updated from results/benchmarks, and the names of these suites."""
    made = []
    for suite in re.findall(r"<!-- table: (\w+) -->", text):
        if (file := RESULTS / f"{suite}.json").exists():
            rows = json.loads(file.read_text())
            start = text.index(mark := f"<!-- table: {suite} -->") + len(mark)
            text = f"{text[:start]}\n{_machine(rows)}\n\n{table(rows)}\n{text[text.index('<!-- end -->', start) :]}"
            made.append(suite)
    return text, made


def _part(row: Row) -> str | None:
    return row.get("part") or row.get("mode")


def _name(row: Row) -> str:
    if "batch_size" in row and _part(row) in ("forward", "train", "start"):
        dtype = {"float32": "", "bfloat16": ", bfloat16"}[row["dtype"]]
        return f"{row['model']}, {row['batch_size']} × {row['image_size']}{dtype}"
    return row["name"]


def _machine(rows: Sequence[Row]) -> str:
    machine = next(row.get("machine", row) for row in rows)
    versions = {**machine["versions"], **next((row["versions"] for row in rows if "torch" in row.get("versions", {})), {})}
    versions.pop("threads", None)
    device = f"{device}, " if (device := next((row["device"] for row in rows if row.get("device")), "cpu")) != "cpu" else ""
    libraries = ", ".join(f"{name} {version}" for name, version in {"Python": machine["python"], **versions}.items())
    return f"{device}{machine['name']}, {machine['cores']} cores, load {machine['load_average']:.1f} at the start; {libraries}."


def _cell(row: Row, figure: str) -> str:
    def number(value: float) -> str:
        if figure.endswith("bytes"):
            return f"{value / 2**20:,.0f} MiB"
        if figure.endswith("share"):
            return f"{value:.1%}"
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value * 1000:.2f}e-3"

    value: Any = row.get(figure)
    if value is None:
        return "–"
    low_high = row.get(f"{figure}_range")
    return number(value) + (f" ({number(low_high[0])} to {number(low_high[1])})" if low_high else "")

"""The report page of a finished run: a single, self-contained HTML file that loads nothing from the network."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import flax.linen as nn

from jaxcnn.report import figures
from jaxcnn.report.html import command_line, duration, section, svg, table, write_page
from jaxcnn.report.model_summary import shape_text, summarize, total_counts
from jaxcnn.report.quantity import Quantity

_DESCRIBED = re.compile(r"([\w.]+) = (.*?) +# (.*)")  # a line of jaxcnn.config.describe: name, value, meaning


def write_report(
    path: str | os.PathLike[str],
    *,
    summary: Mapping[str, Any],
    config_text: str,
    history: Sequence[Mapping[str, Any]],
    quantities: Sequence[Quantity],
    sections: Iterable[str],
) -> None:
    """Writes the page to `path` atomically.

    Args:
      path: the HTML file; an existing one is replaced.
      summary: the content of summary.json. Entries may be missing or None.
      config_text: the resolved settings, either JSON or the lines that jaxcnn.config.describe returns. Both are shown as a
        table, any other text as it is.
      history: the rows of metrics.jsonl, of training and validation.
      quantities: the metrics of the task. Those in the summary and in the rows are shown.
      sections: the sections of the task and of its networks, as HTML.
    """
    path = Path(path)
    title = path.absolute().parent.name
    curves = figures.curves(history, quantities)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _headline(summary, quantities),
        section("Command", f"<pre>{command_line(str(summary['command']))}</pre>") if summary.get("command") else "",
        section(curves.title, svg(curves.figure, "curves")),
        *sections,
        section("Run summary", table(("Name", "Value"), _flat(summary))) if summary else "",
        _config(config_text) if config_text else "",
    ]
    write_page(path, title, [part for part in parts if part])


def network_section(name: str, model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """Returns the section with the layers of a network for images (H, W, C).

    `name` distinguishes the networks of a task; it is "" if there is only one.
    """
    layers = summarize(model, image_shape)
    rows = [
        (f"{layer.path} ({layer.kind})", shape_text(layer.output_shape), f"{layer.parameters + layer.statistics:,}")
        for layer in layers
    ]
    totals = " · ".join(f"{name}: {count:,}" for name, count in total_counts(layers).items())
    title = f"Model: {escape(name)}" if name else "Model"
    return section(title, table(("Layer (type)", "Output shape", "Parameters"), rows, numbers=1), f"<p>{totals}</p>")


def _headline(summary: Mapping[str, Any], quantities: Sequence[Quantity]) -> str:
    selects = next((quantity for quantity in quantities if quantity.better), None)
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        *((f"Test {quantity.label}", f"test_{quantity.name}", quantity.form.format) for quantity in quantities),
        *([(f"Validation {selects.label}", f"validation_{selects.name}", selects.form.format)] if selects else []),
        ("Epochs", "epochs", "{:.4g}".format),
        ("Total time", "wall_seconds", duration),
        ("Images per second", "images_per_second", "{:,.0f}".format),
        ("Parameters", "params", "{:,}".format),
    ]
    tiles = [
        f"<div><dt>{escape(name)}</dt><dd>{write(summary[key])}</dd></div>"
        for name, key, write in shown
        if summary.get(key) is not None
    ]
    device = f"<p>Device: {escape(str(summary['device']))}</p>" if summary.get("device") else ""
    return f'{device}<dl class="figures">{"".join(tiles)}</dl>'


def _config(config_text: str) -> str:
    described = [_DESCRIBED.fullmatch(line) for line in config_text.splitlines()]
    if all(described):
        rows = [match.groups() for match in described if match]
        return section("Settings", f'<div class="settings">{table(("Setting", "Value", "Meaning"), rows)}</div>')
    try:
        settings = json.loads(config_text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        return section("Settings", f"<pre>{escape(config_text)}</pre>")
    return section("Settings", table(("Setting", "Value"), _flat(settings)))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns the dotted names and the values of a nested dict, in its order."""
    flat: list[tuple[str, str]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return flat

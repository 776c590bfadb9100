"""The page that a finished run leaves behind: one HTML file that needs no other and asks nothing of the network."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import flax.linen as nn

from jaxcnn.report import figures
from jaxcnn.report.html import duration, section, svg, table, write_page
from jaxcnn.report.model_summary import shape_text, summarize, total_counts
from jaxcnn.report.quantity import Quantity


def write_report(
    path: str | os.PathLike[str],
    *,
    summary: Mapping[str, Any],
    config_text: str,
    history: Sequence[Mapping[str, Any]],
    quantities: Sequence[Quantity],
    sections: Iterable[str],
) -> None:
    """Writes the page to `path`, whole or not at all.

    Args:
      path: the HTML file; one that is there is replaced.
      summary: what summary.json has; any of it may be missing or None.
      config_text: the resolved settings; JSON becomes a table, anything else stands as it is.
      history: the rows of metrics.jsonl, of training and of validation.
      quantities: the task's; those that are in the summary and in the rows are shown.
      sections: of the task and of its networks, HTML.
    """
    path = Path(path)
    title = path.absolute().parent.name
    curves = figures.curves(history, quantities)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _headline(summary, quantities),
        section("Command", f"<pre>{escape(str(summary['command']))}</pre>") if summary.get("command") else "",
        section(curves.title, svg(curves.figure, "curves")),
        *sections,
        section("Result", _settings(_flat(summary))) if summary else "",
        _config(config_text) if config_text else "",
    ]
    write_page(path, title, [part for part in parts if part])


def network_section(name: str, model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The table of a network's layers, for images (H, W, C); `name` is "" where a task has one network."""
    layers = summarize(model, image_shape)
    rows = [
        (f"{layer.path} ({layer.kind})", shape_text(layer.output_shape), f"{layer.parameters + layer.statistics:,}")
        for layer in layers
    ]
    totals = " · ".join(f"{name}: {count:,}" for name, count in total_counts(layers).items())
    title = f"Model: {escape(name)}" if name else "Model"
    return section(title, table(("Layer (type)", "Output Shape", "Param #"), rows, numbers=1), f"<p>{totals}</p>")


def _headline(summary: Mapping[str, Any], quantities: Sequence[Quantity]) -> str:
    selects = next((quantity for quantity in quantities if quantity.better), None)
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        *((f"Test {quantity.label}", f"test_{quantity.name}", _form(quantity)) for quantity in quantities),
        *([(f"Validation {selects.label}", f"validation_{selects.name}", _form(selects))] if selects else []),
        ("Epochs", "epochs", "{:.6g}".format),
        ("Time", "wall_seconds", duration),
        ("Images/s", "images_per_second", "{:,.0f}".format),
        ("Parameters", "params", "{:,}".format),
    ]
    tiles = [
        f"<div><dt>{escape(name)}</dt><dd>{write(summary[key])}</dd></div>"
        for name, key, write in shown
        if summary.get(key) is not None
    ]
    device = escape(str(summary.get("device") or ""))
    return f'<p>{device}</p><dl class="figures">{"".join(tiles)}</dl>'


def _form(quantity: Quantity) -> Callable[[Any], str]:
    """Writes its value; before a percent sign stands a space, as in the tables of the page."""
    return lambda value: quantity.form.format(value).replace("%", " %")


def _config(config_text: str) -> str:
    try:
        settings = json.loads(config_text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        return section("Settings", f"<pre>{escape(config_text)}</pre>")
    return section("Settings", _settings(_flat(settings)))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values of a nested dict, in its order."""
    flat: list[tuple[str, str]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", "–" if value is None else str(value)))
    return flat


def _settings(rows: Sequence[tuple[str, str]]) -> str:
    return table(("Name", "Value"), rows)

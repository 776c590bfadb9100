"""The page that a finished run leaves behind: one HTML file that needs no other and asks nothing of the network."""

import io
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcnn.evaluate import metrics
from jaxcnn.report import figures
from jaxcnn.report.model_summary import Layer, shape_text, total_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_MATRIX = 100  # classes; a larger confusion matrix can't be read
MISTAKES = 25

# The policy makes the browser keep the promise: nothing is loaded from anywhere.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ground: #fff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --panel: #f6f8fa; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ground: #14181d; --ink: #e2e7ec; --soft: #9aa5b1; --line: #313840; --panel: #1c2229; }}
}}
body {{ max-width: 70rem; margin: 2rem auto 4rem; padding: 0 1.5rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0; }}
h2 {{ font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }}
p {{ margin: .4rem 0; color: var(--soft); }}
pre, .scroll {{ overflow: auto; background: var(--panel); border-radius: 6px; }}
pre {{ padding: .7rem 1rem; font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; }}
.scroll {{ max-height: 52rem; padding: 0 1rem .3rem; width: fit-content; max-width: calc(100% - 2rem); }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }}
.figures div {{ background: var(--panel); border-radius: 6px; padding: .6rem .9rem; }}
.figures dt {{ color: var(--soft); font-size: 13px; }}
.figures dd {{ margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th {{ position: sticky; top: 0; background: var(--panel); text-align: left; color: var(--soft); font-weight: 600; }}
th, td {{ padding: .28rem 1.6rem .28rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }}
th:last-child, td:last-child {{ padding-right: 0; }}
tr:last-child td {{ border-bottom: 0; }}
td {{ overflow-wrap: anywhere; }}
.number {{ text-align: right; white-space: nowrap; }}
figure {{ margin: 1rem 0; }}
svg {{ max-width: 100%; height: auto; }}
svg text {{ font-family: system-ui, sans-serif !important; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(
    path: str | os.PathLike[str],
    *,
    summary: Mapping[str, Any],
    config_text: str,
    history: Sequence[Mapping[str, Any]],
    task: metrics.Task,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    image_at: Callable[[int], np.ndarray],
    layers: Sequence[Layer],
) -> None:
    """Writes the page to `path`, whole or not at all.

    Args:
      path: the HTML file; one that is there is replaced.
      summary: what summary.json has; any of it may be missing or None.
      config_text: the resolved settings; JSON becomes a table, anything else stands as it is.
      history: the rows of metrics.jsonl, of training and of validation.
      task: "multiclass", "binary" or "multilabel", see `jaxcnn.evaluate.metrics`.
      class_names: K names; for binary two, of 0 and of 1.
      labels: of the test set, (N,), or (N, K) for multilabel.
      logits: of the test set, (N, K), or (N, 1) for binary.
      image_at: gives test image i as uint8 (H, W, C); called only for the mistakes that are shown.
      layers: the network's, from `summarize`.
    """
    path = Path(path)
    title = path.absolute().parent.name
    sections = [
        f"<h1>{escape(title)}</h1>",
        _headline(summary),
        _section("Command", f"<pre>{escape(str(summary['command']))}</pre>") if summary.get("command") else "",
        _section("Loss and accuracy", _svg(figures.curves(history), "curves")),
    ]
    if len(labels):
        if task != "multilabel":
            sections.append(_confusion(metrics.confusion_matrix(logits, labels, task), class_names))
        sections.append(_classes(metrics.per_class(logits, labels, task, class_names)))
        sections.append(_mistakes(task, class_names, labels, logits, image_at))
    if layers:
        sections.append(_model(layers))
    if summary:
        sections.append(_section("Result", _settings(_flat(summary))))
    if config_text:
        sections.append(_config(config_text))

    text = PAGE.format(title=escape(title), body="\n".join(sections))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", errors="replace")  # a path in the command may be no UTF-8
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _headline(summary: Mapping[str, Any]) -> str:
    shown = (
        ("Test accuracy", "test_accuracy", _percent),
        ("Test top-5 accuracy", "test_top5_accuracy", _percent),
        ("Test loss", "test_loss", "{:.4f}".format),
        ("Test examples", "test_examples", "{:,}".format),
        ("Validation accuracy", "validation_accuracy", _percent),
        ("Epochs", "epochs", "{:.6g}".format),
        ("Time", "wall_seconds", _duration),
        ("Images/s", "images_per_second", "{:,.0f}".format),
        ("Parameters", "params", "{:,}".format),
    )
    tiles = [
        f"<div><dt>{name}</dt><dd>{write(summary[key])}</dd></div>"
        for name, key, write in shown
        if summary.get(key) is not None
    ]
    device = escape(str(summary.get("device") or ""))
    return f'<p>{device}</p><dl class="figures">{"".join(tiles)}</dl>'


def _confusion(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    parts = []
    if len(class_names) <= LARGEST_MATRIX:
        parts.append(_svg(figures.confusion(matrix, class_names), "confusion"))
    if len(class_names) > figures.WRITTEN_CLASSES:
        parts.append(_most_confused(matrix, class_names))
    return _section("Confusion matrix", *parts)


def _most_confused(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    mistakes = matrix - np.diag(np.diag(matrix))
    support = matrix.sum(axis=1)
    worst = np.argsort(-mistakes, axis=None, kind="stable")[:25]
    rows = [
        (
            class_names[label],
            class_names[predicted],
            f"{mistakes[label, predicted]:,}",
            _percent(mistakes[label, predicted] / support[label]),
        )
        for label, predicted in zip(*np.unravel_index(worst, matrix.shape), strict=True)
        if mistakes[label, predicted]
    ]
    if not rows:
        return "<p>No class is taken for another.</p>"
    return "<p>The classes most often taken for others:</p>" + _table(
        ("Label", "Predicted", "Examples", "Share of the label's"), rows, numbers=2
    )


def _classes(rows: Sequence[metrics.ClassRow]) -> str:
    written = [
        (row["name"], _percent(row["precision"]), _percent(row["recall"]), _percent(row["f1"]), f"{row['support']:,}")
        for row in rows
    ]
    return _section("Classes", _table(("Class", "Precision", "Recall", "F1", "Examples"), written, numbers=4))


def _mistakes(
    task: metrics.Task,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    image_at: Callable[[int], np.ndarray],
) -> str:
    """The wrong predictions with the highest probabilities, worst first; one an example."""
    probabilities = metrics.probabilities(logits, task)
    predicted = metrics.predictions(logits, task)
    if task == "multilabel":
        certainty = np.where(predicted == 1, probabilities, 1 - probabilities)
        certainty = np.where(predicted != labels, certainty, -1)
        class_ = certainty.argmax(axis=1)  # of each example, its worst decision
        given = certainty.max(axis=1)
        wrong = np.flatnonzero((predicted != labels).any(axis=1))
    else:
        given = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
        wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        return _section("Worst mistakes", f"<p>No mistakes in {len(labels):,} examples.</p>")

    worst = wrong[np.argsort(-given[wrong], kind="stable")][:MISTAKES]  # NaN goes last
    if task == "multilabel":
        names = [class_names[class_[i]] for i in worst]
        there = [name if labels[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
        said = [name if predicted[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
    else:
        there = [class_names[labels[i]] for i in worst]
        said = [class_names[predicted[i]] for i in worst]
    sheet = figures.worst_mistakes([image_at(int(i)) for i in worst], there, said, [float(given[i]) for i in worst])
    caption = (
        f"<p>{len(worst)} of {len(wrong):,} wrong among {len(labels):,} examples, those of which the network "
        "was surest: label → prediction, and the probability that it gave the prediction.</p>"
    )
    return _section("Worst mistakes", caption, _svg(sheet, "mistakes"))


def _model(layers: Sequence[Layer]) -> str:
    rows = [
        (f"{layer.path} ({layer.kind})", shape_text(layer.output_shape), f"{layer.parameters + layer.statistics:,}")
        for layer in layers
    ]
    totals = " · ".join(f"{name}: {count:,}" for name, count in total_counts(layers).items())
    return _section("Model", _table(("Layer (type)", "Output Shape", "Param #"), rows, numbers=1), f"<p>{totals}</p>")


def _config(config_text: str) -> str:
    try:
        settings = json.loads(config_text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        return _section("Settings", f"<pre>{escape(config_text)}</pre>")
    return _section("Settings", _settings(_flat(settings)))


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
    return _table(("Name", "Value"), rows)


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{''.join(parts)}\n</section>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """An HTML table of texts, which are escaped here; the last `numbers` columns are set as numbers."""
    first_number = len(header) - numbers

    def row(cells: Sequence[str], tag: str) -> str:
        written = "".join(
            f"<{tag}{' class=number' if column >= first_number else ''}>{escape(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{written}</tr>\n"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="scroll"><table>\n<thead>{row(header, "th")}</thead>\n<tbody>{body}</tbody></table></div>'


def _svg(figure: "Figure", name: str) -> str:
    """The figure as inline SVG in the page's own colours and fonts; `name` keeps its ids apart from other figures'."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are measured wrong, but the browser draws them.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, dpi=150, metadata=no_metadata)
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(figures.INK, "currentColor")  # without XML's prolog and its DTD
    return f"<figure>{text}</figure>"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"

"""The page that a finished run leaves behind: one HTML file that needs no other and asks nothing of the network."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from jaxcnn.report import figures
from jaxcnn.report.html import duration, percent, section, svg, table, write_page
from jaxcnn.report.model_summary import Layer, shape_text, total_counts
from jaxcnn.tasks import classification_metrics as metrics

LARGEST_MATRIX = 100  # classes; a larger confusion matrix can't be read
MISTAKES = 25


def write_report(
    path: str | os.PathLike[str],
    *,
    summary: Mapping[str, Any],
    config_text: str,
    history: Sequence[Mapping[str, Any]],
    task: metrics.LabelKind,
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
      task: "multiclass", "binary" or "multilabel", see `jaxcnn.tasks.classification_metrics`.
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
        section("Command", f"<pre>{escape(str(summary['command']))}</pre>") if summary.get("command") else "",
        section("Loss and accuracy", svg(figures.curves(history), "curves")),
    ]
    if len(labels):
        if task != "multilabel":
            sections.append(_confusion(metrics.confusion_matrix(logits, labels, task), class_names))
        sections.append(_classes(metrics.per_class(logits, labels, task, class_names)))
        sections.append(_mistakes(task, class_names, labels, logits, image_at))
    if layers:
        sections.append(_model(layers))
    if summary:
        sections.append(section("Result", _settings(_flat(summary))))
    if config_text:
        sections.append(_config(config_text))

    write_page(path, title, sections)


def _headline(summary: Mapping[str, Any]) -> str:
    shown = (
        ("Test accuracy", "test_accuracy", percent),
        ("Test top-5 accuracy", "test_top5_accuracy", percent),
        ("Test loss", "test_loss", "{:.4f}".format),
        ("Test examples", "test_examples", "{:,}".format),
        ("Validation accuracy", "validation_accuracy", percent),
        ("Epochs", "epochs", "{:.6g}".format),
        ("Time", "wall_seconds", duration),
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
        parts.append(svg(figures.confusion(matrix, class_names), "confusion"))
    if len(class_names) > figures.WRITTEN_CLASSES:
        parts.append(_most_confused(matrix, class_names))
    return section("Confusion matrix", *parts)


def _most_confused(matrix: np.ndarray, class_names: Sequence[str]) -> str:
    mistakes = matrix - np.diag(np.diag(matrix))
    support = matrix.sum(axis=1)
    worst = np.argsort(-mistakes, axis=None, kind="stable")[:25]
    rows = [
        (
            class_names[label],
            class_names[predicted],
            f"{mistakes[label, predicted]:,}",
            percent(mistakes[label, predicted] / support[label]),
        )
        for label, predicted in zip(*np.unravel_index(worst, matrix.shape), strict=True)
        if mistakes[label, predicted]
    ]
    if not rows:
        return "<p>No class is taken for another.</p>"
    return "<p>The classes most often taken for others:</p>" + table(
        ("Label", "Predicted", "Examples", "Share of the label's"), rows, numbers=2
    )


def _classes(rows: Sequence[metrics.ClassRow]) -> str:
    written = [
        (row["name"], percent(row["precision"]), percent(row["recall"]), percent(row["f1"]), f"{row['support']:,}")
        for row in rows
    ]
    return section("Classes", table(("Class", "Precision", "Recall", "F1", "Examples"), written, numbers=4))


def _mistakes(
    task: metrics.LabelKind,
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
        return section("Worst mistakes", f"<p>No mistakes in {len(labels):,} examples.</p>")

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
    return section("Worst mistakes", caption, svg(sheet, "mistakes"))


def _model(layers: Sequence[Layer]) -> str:
    rows = [
        (f"{layer.path} ({layer.kind})", shape_text(layer.output_shape), f"{layer.parameters + layer.statistics:,}")
        for layer in layers
    ]
    totals = " · ".join(f"{name}: {count:,}" for name, count in total_counts(layers).items())
    return section("Model", table(("Layer (type)", "Output Shape", "Param #"), rows, numbers=1), f"<p>{totals}</p>")


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

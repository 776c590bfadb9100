"""The sections of the report page of a classifier: confusion matrix, classes, worst mistakes."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcnn.report import figures
from jaxcnn.report.html import percent, section, svg, table
from jaxcnn.tasks.classification_metrics import ClassRow, LabelKind, confusion_matrix, per_class, predictions, probabilities

LARGEST_MATRIX = 100  # classes; a larger confusion matrix can't be read
MISTAKES = 25


def sections(
    tally: Mapping[str, np.ndarray], kind: LabelKind, class_names: Sequence[str], image_at: Callable[[int], np.ndarray]
) -> list[str]:
    """HTML. `tally` has "logits" (N, K), or (N, 1) for binary, and "label" (N,), or (N, K) for multilabel.

    `class_names` are K names, for binary the names of 0 and 1; `image_at` is called only for the mistakes that are shown.
    """
    logits, labels = tally["logits"], tally["label"]
    matrix = [] if kind == "multilabel" else [_confusion(confusion_matrix(logits, labels, kind), class_names)]
    return [
        *matrix,
        _classes(per_class(logits, labels, kind, class_names)),
        _mistakes(kind, class_names, labels, logits, image_at),
    ]


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


def _classes(rows: Sequence[ClassRow]) -> str:
    written = [
        (row["name"], percent(row["precision"]), percent(row["recall"]), percent(row["f1"]), f"{row['support']:,}")
        for row in rows
    ]
    return section("Classes", table(("Class", "Precision", "Recall", "F1", "Examples"), written, numbers=4))


def _mistakes(
    kind: LabelKind,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    image_at: Callable[[int], np.ndarray],
) -> str:
    """The wrong predictions with the highest probabilities, worst first; one per example."""
    shares, predicted = probabilities(logits, kind), predictions(logits, kind)
    if kind == "multilabel":
        certainty = np.where(predicted == 1, shares, 1 - shares)
        certainty = np.where(predicted != labels, certainty, -1)
        class_ = certainty.argmax(axis=1)  # of each example, its worst decision
        given = certainty.max(axis=1)
        wrong = np.flatnonzero((predicted != labels).any(axis=1))
    else:
        given = np.take_along_axis(shares, predicted[:, None], axis=1)[:, 0]
        wrong = np.flatnonzero(predicted != labels)
    if not len(wrong):
        return section("Worst mistakes", f"<p>No mistakes in {len(labels):,} examples.</p>")

    worst = wrong[np.argsort(-given[wrong], kind="stable")][:MISTAKES]  # NaN goes last
    if kind == "multilabel":
        names = [class_names[class_[i]] for i in worst]
        labelled = [name if labels[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
        predicted_names = [name if predicted[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
    else:
        labelled = [class_names[labels[i]] for i in worst]
        predicted_names = [class_names[predicted[i]] for i in worst]
    sheet = figures.worst_mistakes(
        [image_at(int(i)) for i in worst], labelled, predicted_names, [float(given[i]) for i in worst]
    )
    caption = (
        f"<p>{len(worst)} of {len(wrong):,} wrong among {len(labels):,} examples, the ones of which the network "
        "was surest: label → prediction, and the probability that it gave the prediction.</p>"
    )
    return section("Worst mistakes", caption, svg(sheet, "mistakes"))

"""A classifier's sections of the report page: confusion matrix, per-class metrics, most confident mistakes."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcnn.report import figures
from jaxcnn.report.html import counted, percent, section, svg, table
from jaxcnn.tasks.classification_metrics import ClassRow, LabelKind, confusion_matrix, per_class, predictions, probabilities

LARGEST_MATRIX = 100  # classes; a larger confusion matrix is unreadable
MISTAKES = 25


def sections(
    tally: Mapping[str, np.ndarray], kind: LabelKind, class_names: Sequence[str], image_at: Callable[[int], np.ndarray]
) -> list[str]:
    """Returns the sections as HTML.

    Args:
      tally: "logits" (N, K), or (N, 1) for binary labels, and "label" (N,), or (N, K) for multilabel.
      kind: the kind of labels.
      class_names: K names; for binary labels those of classes 0 and 1.
      image_at: returns the image (H, W, C) uint8 of an example. It is called only for the mistakes that are shown.
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
    has_counts = len(class_names) <= figures.MAX_CLASSES_WITH_COUNTS
    if len(class_names) <= LARGEST_MATRIX:
        counts = "show the number of examples and " if has_counts else ""
        parts.append(f"<p>Cells {counts}are colored by the share of the true class, on a square-root scale.</p>")
        parts.append(svg(figures.confusion(matrix, class_names), "confusion"))
    if not has_counts:
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
        return "<p>No class is confused with another.</p>"
    return "<p>Most frequent confusions:</p>" + table(
        ("True class", "Predicted class", "Examples", "Share of the true class"), rows, numbers=2
    )


def _classes(rows: Sequence[ClassRow]) -> str:
    written = [
        (row["name"], percent(row["precision"]), percent(row["recall"]), percent(row["f1"]), f"{row['support']:,}")
        for row in rows
    ]
    return section(
        "Per-class precision and recall", table(("Class", "Precision", "Recall", "F1", "Examples"), written, numbers=4)
    )


def _mistakes(
    kind: LabelKind,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    image_at: Callable[[int], np.ndarray],
) -> str:
    """Returns the wrong predictions with the highest probabilities, in descending order, one per example."""
    probability, predicted = probabilities(logits, kind), predictions(logits, kind)
    if kind == "multilabel":
        confidence = np.where(predicted == 1, probability, 1 - probability)
        confidence = np.where(predicted != labels, confidence, -1)
        class_ = confidence.argmax(axis=1)  # each example's most confident mistake
        confidence = confidence.max(axis=1)
        wrong = np.flatnonzero((predicted != labels).any(axis=1))
    else:
        confidence = np.take_along_axis(probability, predicted[:, None], axis=1)[:, 0]
        wrong = np.flatnonzero(predicted != labels)
    title = "Most confident mistakes"
    if not len(wrong):
        return section(title, f"<p>No mistakes in {counted(len(labels), 'example')}.</p>")

    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]  # NaN is sorted to the end
    if kind == "multilabel":
        names = [class_names[class_[i]] for i in worst]
        true_names = [name if labels[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
        predicted_names = [name if predicted[i, class_[i]] else f"no {name}" for i, name in zip(worst, names, strict=True)]
    else:
        true_names = [class_names[labels[i]] for i in worst]
        predicted_names = [class_names[predicted[i]] for i in worst]
    sheet = figures.confident_mistakes(
        [image_at(int(i)) for i in worst], true_names, predicted_names, [float(confidence[i]) for i in worst]
    )
    selected = f", of which the {len(worst)} most confident are shown" if len(worst) < len(wrong) else ""
    caption = (
        f"<p>{counted(len(wrong), 'mistake')} in {counted(len(labels), 'example')}{selected}: true class → predicted class, "
        "and the predicted probability.</p>"
    )
    return section(title, caption, svg(sheet, "mistakes"))

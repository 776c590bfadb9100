"""Classification metrics of exactly N examples, computed on the host in float64.

All functions expect logits and labels of one kind:

    kind          labels                   logits
    multiclass    (N,) int, 0 … K - 1      (N, K)
    binary        (N,) int, 0 or 1         (N, 1), positive above 0
    multilabel    (N, K) int, 0 or 1       (N, K), each positive above 0

Logits may have any float dtype, including bfloat16. An example with a NaN among its logits counts as wrong.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from jaxcnn.data.fields import LabelKind


class ClassRow(TypedDict):
    """The metrics of one class; `support` is the number of examples with this label."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def probabilities(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Returns probabilities, float32: (N, K), or (N, 2) for binary labels.

    Rows sum to 1, except for multilabel, where each label has an independent probability.
    """
    from scipy.special import expit, softmax

    logits = _checked(logits, kind)
    if kind == "multilabel":
        return expit(logits).astype(np.float32)
    if kind == "binary":  # not 1 - expit(x), which would round a small probability of class 0 to 0
        return np.concatenate([expit(-logits), expit(logits)], axis=-1).astype(np.float32)
    with np.errstate(invalid="ignore"):  # the softmax of infinite logits is NaN
        return softmax(logits, axis=-1).astype(np.float32)


def predictions(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Returns predicted classes (N,), or zeros and ones (N, K) for multilabel. Ties go to the first class, as in argmax."""
    logits = _checked(logits, kind)
    if kind == "multilabel":
        return (logits > 0).astype(np.int64)
    if kind == "binary":
        return (logits[:, 0] > 0).astype(np.int64)
    return logits.argmax(axis=-1)


def accuracy(logits: np.ndarray, labels: np.ndarray, kind: LabelKind) -> float:
    """Returns the share of correctly predicted examples; for multilabel, the share of correct labels among all N × K."""
    is_correct = predictions(logits, kind) == labels
    is_correct[np.isnan(_checked(logits, kind)).any(axis=-1)] = False  # argmax treats NaN as the largest
    return float(is_correct.mean())


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Returns the share of multiclass examples whose label is among the k largest logits.

    Ties count as wrong: fewer than k other classes may have a logit of at least the label's. A network that returns equal
    logits for all classes therefore scores 0. For k = 1 this is `accuracy`, except for ties.
    """
    logits = _checked(logits, "multiclass")
    of_label = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=-1)
    ahead = (logits >= of_label).sum(axis=-1) - 1  # without the label itself
    is_correct = (ahead < k) & ~np.isnan(logits).any(axis=-1)
    return float(is_correct.mean())


def per_class(logits: np.ndarray, labels: np.ndarray, kind: LabelKind, class_names: Sequence[str]) -> list[ClassRow]:
    """Returns precision, recall, F1 and support of each class, in the order of `class_names`.

    A metric whose denominator is 0 is 0. Raises ValueError if the number of names is not the number of classes.
    """
    from sklearn.metrics import precision_recall_fscore_support

    num_classes = 2 if kind == "binary" else logits.shape[1]
    if len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class names for {num_classes} classes")
    scores = precision_recall_fscore_support(
        labels, predictions(logits, kind), labels=range(num_classes), average=None, zero_division=0
    )
    return [
        ClassRow(name=name, precision=float(p), recall=float(r), f1=float(f), support=int(n))
        for name, p, r, f, n in zip(class_names, *scores, strict=True)
    ]


def confusion_matrix(logits: np.ndarray, labels: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Returns counts (K, K) int with labels as rows and predictions as columns. Multilabel: (K, 2, 2), one matrix per class."""
    from sklearn import metrics

    predicted = predictions(logits, kind)
    if kind == "multilabel":
        return metrics.multilabel_confusion_matrix(labels, predicted)
    num_classes = 2 if kind == "binary" else logits.shape[1]
    return metrics.confusion_matrix(labels, predicted, labels=range(num_classes))


def _checked(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Returns the logits in float64. Raises ValueError if their shape does not fit the kind."""
    if kind not in ("multiclass", "binary", "multilabel"):
        raise ValueError(f'kind "{kind}": expected multiclass, binary or multilabel')
    if logits.ndim != 2 or (kind == "binary" and logits.shape[1] != 1):
        expected = "(N, 1)" if kind == "binary" else "(N, K)"
        raise ValueError(f"logits of shape {logits.shape}: expected {expected} for {kind} labels")
    return logits.astype(np.float64)

"""Classification metrics over exactly N examples, on the host.

Every function takes logits and labels of one kind:

    kind          labels                   logits
    multiclass    (N,) int, 0 … K - 1      (N, K)
    binary        (N,) int, 0 or 1         (N, 1), positive above 0
    multilabel    (N, K) int, 0 or 1       (N, K), each positive above 0

Logits are of any float dtype (bfloat16 too). An example with a NaN among its logits is never right.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from jaxcnn.data.fields import LabelKind


class ClassRow(TypedDict):
    """How one class fares; `support` is the number of examples that have it."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def probabilities(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Float32 probabilities: (N, K), rows summing to 1; binary (N, 2), of 0 and 1; multilabel (N, K), each its own."""
    from scipy.special import expit, softmax

    logits = _checked(logits, kind)
    if kind == "multilabel":
        return expit(logits).astype(np.float32)
    if kind == "binary":  # not 1 - expit(x): that would round a small probability of 0 away
        return np.concatenate([expit(-logits), expit(logits)], axis=-1).astype(np.float32)
    with np.errstate(invalid="ignore"):  # infinite logits have no softmax: NaN says so
        return softmax(logits, axis=-1).astype(np.float32)


def predictions(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """Predicted classes (N,), for multilabel (N, K) of 0 and 1. Of equal logits the first wins, as in argmax."""
    logits = _checked(logits, kind)
    if kind == "multilabel":
        return (logits > 0).astype(np.int64)
    if kind == "binary":
        return (logits[:, 0] > 0).astype(np.int64)
    return logits.argmax(axis=-1)


def accuracy(logits: np.ndarray, labels: np.ndarray, kind: LabelKind) -> float:
    """Share of examples predicted right; for multilabel the share of right decisions among all N × K of them."""
    right = predictions(logits, kind) == labels
    broken = np.isnan(_checked(logits, kind)).any(axis=-1)  # argmax calls a NaN the largest
    right[broken] = False
    return float(right.mean())


def top_k_accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of multiclass examples whose label is among the k largest logits.

    Ties count against the network: a label is in only if fewer than k other classes reach its logit, so that a network
    that answers the same for every class is right nowhere. For k = 1 this is `accuracy`, but for ties.
    """
    logits = _checked(logits, "multiclass")
    of_label = np.take_along_axis(logits, np.asarray(labels)[:, None], axis=-1)
    ahead = (logits >= of_label).sum(axis=-1) - 1  # the label reaches itself
    right = (ahead < k) & ~np.isnan(logits).any(axis=-1)
    return float(right.mean())


def per_class(logits: np.ndarray, labels: np.ndarray, kind: LabelKind, class_names: Sequence[str]) -> list[ClassRow]:
    """Precision, recall, F1 and support of each of `class_names`, in order; 0 where there is nothing to divide by."""
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
    """Counts (K, K) int: row the label, column the prediction. Multilabel: (K, 2, 2), one such matrix a class."""
    from sklearn import metrics

    predicted = predictions(logits, kind)
    if kind == "multilabel":
        return metrics.multilabel_confusion_matrix(labels, predicted)
    num_classes = 2 if kind == "binary" else logits.shape[1]
    return metrics.confusion_matrix(labels, predicted, labels=range(num_classes))


def _checked(logits: np.ndarray, kind: LabelKind) -> np.ndarray:
    """The logits in float64, or a ValueError if their shape does not fit the kind."""
    if kind not in ("multiclass", "binary", "multilabel"):
        raise ValueError(f'kind "{kind}": expected multiclass, binary or multilabel')
    if logits.ndim != 2 or (kind == "binary" and logits.shape[1] != 1):
        raise ValueError(f"logits of shape {logits.shape}: {kind} takes {'(N, 1)' if kind == 'binary' else '(N, K)'}")
    return logits.astype(np.float64)

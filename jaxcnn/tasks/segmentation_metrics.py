"""Metrics of semantic segmentation from confusion counts: those per image on the device, the metrics on the host in float64.

Counts are (..., K, K) int: the pixels of each true class (row) that were predicted as each class (column), without void ones.
From the counts of class c, TP pixels are of class c and predicted so, FP are predicted so only, and FN are of class c only:

    IoU        TP / (TP + FP + FN)
    Dice       2 TP / (2 TP + FP + FN)
    precision  TP / (TP + FP)
    recall     TP / (TP + FN)

A metric with denominator 0 is NaN. So IoU and Dice of a class that is neither true nor predicted in any pixel are NaN, and
means leave it out, as MulticlassJaccardIndex and MulticlassF1Score of torchmetrics 1.9 and MeanIoU of Keras do. A class that is
predicted but never true has an IoU and a Dice of 0, which count. It has no recall, so the class accuracy leaves it out, whereas
the macro average of torchmetrics' MulticlassAccuracy counts it as 0. All metrics of a data set are computed from the sum of its
images' counts, whereas torchmetrics.segmentation.MeanIoU is a mean over images.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np


class SegmentationRow(TypedDict):
    """The metrics of one class, NaN if undefined; `pixels` is the number of pixels of this class, TP + FN."""

    name: str
    iou: float
    dice: float
    precision: float
    recall: float
    pixels: int


class IouIntervals(NamedTuple):
    """95 % intervals (low, high) of the mean IoU, and of the IoU of each class, (K, 2) float64."""

    mean: tuple[float, float]
    classes: np.ndarray


def confusion_counts(predicted: jax.Array, maps: jax.Array, num_classes: int) -> jax.Array:
    """Returns the confusion counts of each image, (B, K, K) int32.

    `predicted` is (B, H, W) int, the predicted classes, 0 to K - 1; `maps` is (B, H, W) uint8, 0 to K - 1 or VOID.
    """
    # 1.1 ms for 4×360×480 pixels and 11 classes on 2 cores. Sorting takes 32 ms, a product of one-hot matrices 40 ms, and a
    # comparison with all K² cells 230 ms. One segment_sum over the batch takes 0.6 ms, but devices would have to add theirs.
    classes = maps.reshape(len(maps), -1).astype(jnp.int32)
    cell = num_classes * classes + predicted.reshape(len(maps), -1).astype(jnp.int32)
    # The cells of void pixels, K · VOID and more, are not less than K², and bincount ignores these.
    counts = jax.vmap(lambda of_image: jnp.bincount(of_image, length=num_classes**2))(cell)
    return counts.reshape(-1, num_classes, num_classes).astype(jnp.int32)


def segmentation_metrics(counts: np.ndarray) -> dict[str, float]:
    """Returns mean_iou, mean_dice, pixel_accuracy and class_accuracy from the counts (K, K) of any number of images.

    pixel_accuracy is the share of correct pixels, and class_accuracy the mean recall over the classes that occur in the maps.
    All are NaN if there are no pixels.
    """
    correct, true, predicted = _totals(counts)
    return {
        "mean_iou": float(_mean(_divide(correct, true + predicted - correct))),
        "mean_dice": float(_mean(_divide(2 * correct, true + predicted))),
        "pixel_accuracy": float(_divide(correct.sum(), true.sum())),
        "class_accuracy": float(_mean(_divide(correct, true))),
    }


def class_rows(counts: np.ndarray, names: Sequence[str]) -> list[SegmentationRow]:
    """Returns the metrics of each class from the counts (K, K), in the order of `names`.

    Raises ValueError if the number of names is not the number of classes.
    """
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} class names for {len(counts)} classes")
    correct, true, predicted = _totals(counts)
    columns = {
        "iou": _divide(correct, true + predicted - correct),
        "dice": _divide(2 * correct, true + predicted),
        "precision": _divide(correct, predicted),
        "recall": _divide(correct, true),
    }
    return [
        SegmentationRow(
            name=name,
            iou=float(columns["iou"][c]),
            dice=float(columns["dice"][c]),
            precision=float(columns["precision"][c]),
            recall=float(columns["recall"][c]),
            pixels=int(true[c]),
        )
        for c, name in enumerate(names)
    ]


def iou_intervals(counts: np.ndarray, seed: int, repeats: int = 1000) -> IouIntervals:
    """Returns 95 % intervals of the mean IoU and of each class's IoU from the counts per image (N, K, K).

    These are the 2.5th and 97.5th percentiles over `repeats` samples of N images, drawn with replacement (Efron and Tibshirani
    1993, section 13.3). A class that does not occur in a sample is left out of the sample's mean and of the percentiles of that
    class; the interval of a class that never occurs is NaN.

    Raises:
      ValueError: there are no images.
    """
    if not len(counts):
        raise ValueError("iou_intervals needs at least one image")
    correct, true, predicted = _totals(counts)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=repeats)
    drawn = drawn.astype(np.float64)  # (repeats, N): how often each image is in each sample
    ious = _divide(drawn @ correct, drawn @ (true + predicted - correct))  # (repeats, K); sums below 2^53 are exact
    low, *classes = (_interval(column) for column in (_mean(ious), *ious.T))
    return IouIntervals(low, np.array(classes))


def _totals(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the correct pixels, the pixels, and the predicted pixels of each class, each (..., K) float64."""
    counts = np.asarray(counts, np.float64)
    return counts.diagonal(axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def _divide(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Returns part / total, NaN where total is 0."""
    return np.divide(part, total, out=np.full(np.shape(total), np.nan), where=np.asarray(total) > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis without NaN, which is NaN if all values are."""
    return _divide(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 2.5th and the 97.5th percentile without NaN."""
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return float(low), float(high)

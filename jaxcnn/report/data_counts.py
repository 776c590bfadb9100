"""Counts the classes of a data set in labels, in the pixels of segmentation maps, and in bounding boxes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxcnn import data
from jaxcnn.data.inspect import class_counts, pixel_counts
from jaxcnn.report.html import counted, percent

BALANCED = 1.5  # the largest ratio between the counts of two classes that is reported as balanced
_UNITS = {"label": ("image", "images"), "map": ("pixel", "pixels"), "boxes": ("box", "boxes")}


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """The class counts of one field: "label", "map" or "boxes"."""

    field: str
    names: Sequence[str]
    splits: dict[str, np.ndarray]
    """The number of images, pixels or boxes per class, (K,), for each split."""
    total: int
    """The number of images, of annotated pixels, or of boxes in the training set."""
    is_exclusive: bool
    """True if each image (or pixel) has exactly one class, so that a constant prediction has an accuracy."""

    @property
    def units(self) -> str:
        """Returns what is counted: images, pixels or boxes."""
        return _UNITS[self.field][1]

    def by_name(self) -> dict[str, dict[str, int]]:
        """Returns {split: {class name: count}}."""
        return {split: dict(zip(self.names, count.tolist(), strict=True)) for split, count in self.splits.items()}

    def imbalance(self) -> str:
        """Describes how unequal the classes are in the training set, and which splits lack a class."""
        names, train, (unit, units) = self.names, self.splits["train"], _UNITS[self.field]
        most, least = int(train.argmax()), int(train.argmin())
        if not train[least]:
            text = f'imbalanced: no training {unit} of "{names[least]}", {train[most]:,} of "{names[most]}"'
        elif train[most] == train[least]:
            text = f"balanced: {counted(int(train[most]), f'training {unit}', f'training {units}')} per class"
        elif train[most] <= BALANCED * train[least]:
            text = (
                f'balanced: {train[least]:,} ("{names[least]}") to {train[most]:,} ("{names[most]}") training {units} per class'
            )
        else:
            text = (
                f'imbalanced: {train[most] / train[least]:.1f} times as many training {units} of "{names[most]}" '
                f'({train[most]:,}) as of "{names[least]}" ({train[least]:,})'
            )
        if self.is_exclusive and self.total:
            share = percent(train[most] / self.total)
            text += f"; always predicting the most frequent class gives {share} accuracy on the training set"
        for split, count in self.splits.items():
            lacking = [names[k] for k in np.flatnonzero((count == 0) & (train > 0)).tolist()]
            if lacking:
                text += f"; {split} has no {unit} of {', '.join(lacking[:5])}" + (" and others" if len(lacking) > 5 else "")
        return text


def count_classes(dataset: data.Dataset) -> list[ClassCounts]:
    """Returns the class counts of all fields of the data set, labels first."""
    names, train = dataset.class_names, dataset.train
    result = []
    for field in train.fields:
        counts = {split: _counts(source, field, len(names)) for split, source in dataset.parts().items()}
        total = len(train) if field == "label" else int(counts["train"].sum())
        is_multilabel = train.labels is not None and train.labels.ndim == 2
        result.append(ClassCounts(field, names, counts, total, field == "map" or (field == "label" and not is_multilabel)))
    return result


def _counts(source: data.Source, field: str, num_classes: int) -> np.ndarray:
    """Returns the counts (K,) of one split."""
    if field == "label":
        return class_counts(source.column("label"), num_classes)
    if field == "map":
        return pixel_counts(source, num_classes).sum(axis=0)
    classes = source.column("classes")
    return np.bincount(classes[classes >= 0], minlength=num_classes)

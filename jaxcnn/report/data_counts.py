"""How often each class comes in a data set: in labels, in the pixels of maps, in boxes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcnn import data
from jaxcnn.data.inspect import class_counts
from jaxcnn.report.html import percent

BALANCED = 1.5  # times as many images of one class as of another, up to here not worth a word
_UNITS = {"label": ("image", "images"), "map": ("pixel", "pixels"), "boxes": ("box", "boxes")}


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """Those of one field: "label", "map" or "boxes"."""

    field: str
    names: Sequence[str]
    parts: dict[str, np.ndarray]
    """(K,) images, pixels or boxes of each class, of each part"""
    of: int
    """what shares of the training set are relative to: its images, the pixels of its maps, or its boxes"""
    one_class_each: bool
    """whether each of these has one class, so that a share is right if the class is always guessed"""

    @property
    def units(self) -> str:
        """What is counted: images, pixels, boxes."""
        return _UNITS[self.field][1]

    def by_name(self) -> dict[str, dict[str, int]]:
        """{part: {name: count}}."""
        return {part: dict(zip(self.names, count.tolist(), strict=True)) for part, count in self.parts.items()}

    def imbalance(self) -> str:
        """How unequal the classes are in training, and which parts lack one, in a sentence or two."""
        names, train, (unit, units) = self.names, self.parts["train"], _UNITS[self.field]
        most, least = int(train.argmax()), int(train.argmin())
        if not train[least]:
            said = f'imbalanced: no training {unit} of "{names[least]}", {train[most]:,} of "{names[most]}"'
        elif train[most] == train[least]:
            said = f"balanced: {counted(int(train[most]), f'training {unit}', f'training {units}')} of each class"
        elif train[most] <= BALANCED * train[least]:
            said = (
                f'balanced: {train[least]:,} ("{names[least]}") to {train[most]:,} ("{names[most]}") training {units} a class'
            )
        else:
            said = (
                f'imbalanced: {train[most] / train[least]:.1f} times as many training {units} of "{names[most]}" '
                f'({train[most]:,}) as of "{names[least]}" ({train[least]:,})'
            )
        if self.one_class_each and self.of:
            said += f"; always guessing the commonest class is right in {percent(train[most] / self.of)} of training"
        for part, count in self.parts.items():
            lacking = [names[k] for k in np.flatnonzero((count == 0) & (train > 0)).tolist()]
            if lacking:
                said += f"; {part} has no {unit} of {listed(lacking[:5])}" + (" and others" if len(lacking) > 5 else "")
        return said


def count_classes(dataset: data.Dataset) -> list[ClassCounts]:
    """The counts of all fields that the data have, labels first."""
    names, parts, train = dataset.class_names, dataset.parts(), dataset.train
    found = []
    for field in train.fields:
        counts = {part: _counts(source, field, len(names)) for part, source in parts.items()}
        of = len(train) if field == "label" else int(counts["train"].sum())
        several = train.labels is not None and train.labels.ndim == 2
        found.append(ClassCounts(field, names, counts, of, field == "map" or (field == "label" and not several)))
    return found


def _counts(source: data.Source, field: str, num_classes: int) -> np.ndarray:
    """(K,); a part of a map at a time, as they may be large."""
    if field == "label":
        return class_counts(source.column("label"), num_classes)
    total = np.zeros(num_classes, np.int64)
    for start in range(0, len(source), 64):
        rows = source.rows(np.arange(start, min(start + 64, len(source))))
        values = rows["map" if field == "map" else "classes"]
        total += np.bincount(values[(values >= 0) & (values < num_classes)], minlength=num_classes)
    return total


def counted(number: int, name: str, names: str = "") -> str:
    """1 image, 2 images."""
    return f"{number:,} {name if number == 1 else names or name + 's'}"


def listed(texts: Any) -> str:
    """One, another, a third."""
    return ", ".join(texts)

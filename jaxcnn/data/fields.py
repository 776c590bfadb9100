"""What an example has beside its image: a label, a map of classes, boxes."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

VOID = 255
"""The value of a map's pixel that has no class: outside of the image, or not annotated."""
NO_BOX = -1
"""The class of a row of boxes that holds no box."""
PADDING = {"map": VOID, "boxes": 0, "classes": NO_BOX}
"""What the padding rows of a batch hold, where it is said here; label and image have a mask alone."""


LabelKind = Literal["multiclass", "binary", "multilabel"]
"""What the labels of images mean to a classifier: one class of many; one of two, by a single logit; several at once."""


class Field(NamedTuple):
    """One target of the examples of a source; `shape` and `dtype` describe one example's array in a batch.

    "label"   the class: () int32, in the batch as "label"
    "labels"  zeros and ones, an image may have several classes: (K,) int32, in the batch as "label"
    "map"     the class of each pixel, or VOID: (H, W) uint8, in the batch as "map"
    "boxes"   x0, y0, x1, y1 in pixels, from the upper left corner of the image: (M, 4) float32, in the batch as "boxes",
              with their classes, or NO_BOX: (M,) int32, as "classes"
    """

    kind: Literal["label", "labels", "map", "boxes"]
    shape: tuple[int, ...]
    dtype: str


def fields_of(columns: Mapping[str, np.ndarray]) -> dict[str, Field]:
    """The fields that these columns (an array (N, …) for each key of a batch) make; "classes" belong to "boxes"."""
    kinds: dict[str, Literal["label", "labels", "map", "boxes"]] = {"label": "label", "map": "map", "boxes": "boxes"}
    if "label" in columns and columns["label"].ndim == 2:
        kinds["label"] = "labels"
    return {
        name: Field(kind, columns[name].shape[1:], str(columns[name].dtype)) for name, kind in kinds.items() if name in columns
    }

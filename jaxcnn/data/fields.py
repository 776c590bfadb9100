"""The targets of an example: a label, a map of classes, boxes."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

VOID = 255
"""The value of pixels without a class in maps: outside the image, or not annotated."""
NO_BOX = -1
"""The class of rows of `boxes` that are padding."""
PADDING = {"map": VOID, "boxes": 0, "classes": NO_BOX}
"""The value of these columns in the padding rows of a batch; those of other columns are undefined, see the mask."""


LabelKind = Literal["multiclass", "binary", "multilabel"]
"""What a classifier predicts: one class of many, one of two classes (by a single logit), or several classes at once."""


class Field(NamedTuple):
    """A target of the examples of a source; `shape` and `dtype` are those of one example's array in a batch.

    - "label": the class, () int32; "label" in a batch
    - "labels": zeros and ones for K classes, of which an image may have several, (K,) int32; "label" in a batch
    - "map": the class of each pixel, or VOID, (H, W) uint8; "map" in a batch
    - "boxes": x0, y0, x1, y1 in pixels from the upper left corner of the image, (M, 4) float32; "boxes" in a batch, together
      with "classes", (M,) int32: their classes, or NO_BOX for padding
    """

    kind: Literal["label", "labels", "map", "boxes"]
    shape: tuple[int, ...]
    dtype: str


def fields_of(columns: Mapping[str, np.ndarray]) -> dict[str, Field]:
    """Returns the fields of these columns, {key of a batch: array (N, …)}; "classes" is part of the field "boxes"."""
    kinds: dict[str, Literal["label", "labels", "map", "boxes"]] = {"label": "label", "map": "map", "boxes": "boxes"}
    if "label" in columns and columns["label"].ndim == 2:
        kinds["label"] = "labels"
    return {
        name: Field(kind, columns[name].shape[1:], str(columns[name].dtype)) for name, kind in kinds.items() if name in columns
    }

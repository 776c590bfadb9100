"""A data source whose images are corrupted, so that a network is evaluated on them as on any other source."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxcnn.data.decode import View
from jaxcnn.data.sources import Derived
from jaxcnn.errors import UserError
from jaxcnn.robustness.corruptions import corrupt
from jaxcnn.robustness.severities import FORMS, form_of


@dataclasses.dataclass(frozen=True)
class Corrupted(Derived):
    """The images of `source` after a corruption; the targets, including class maps, are unchanged.

    `source` returns images in the size in which the network receives them: `Corrupted(Resized(…), …)`, not the reverse, as a
    corruption is defined in pixels of the network's input. The other fields are arguments of `corrupt`.

    Raises:
      UserError: an argument is wrong, or the images differ in size or are not RGB.
    """

    corruption: str
    severity: int
    seed: int = 0
    form: str = "auto"
    frost_folder: str | Path | None = None

    def __post_init__(self) -> None:
        if self.source.image_shape is None:
            raise UserError("corruptions need images of one size; resize them first")
        self._corrupt(
            np.zeros(self.source.image_shape, np.uint8), 0
        )  # a wrong argument is an error here, not at the first read

    @property
    def note(self) -> str:
        """A line for the user: which published constants are used, and why."""
        assert self.source.image_shape is not None
        height, width, _ = self.source.image_shape
        fitting = form_of(height, width)
        form = fitting if self.form == "auto" else self.form
        line = f"corruptions: constants of {form}, published for {FORMS[form]}×{FORMS[form]} pixels; images: {width}×{height}"
        return line if form == fitting else f"{line}, for which those of {fitting} are meant"

    def read(self, index: int, view: View | None = None) -> np.ndarray:
        """See `Source.read`. With a view, the view is corrupted, and its size decides about the form "auto"."""
        return self._corrupt(self.source.read(index, view), index)

    def _corrupt(self, image: np.ndarray, index: int) -> np.ndarray:
        return corrupt(image, self.corruption, self.severity, self.seed, index, self.form, self.frost_folder)

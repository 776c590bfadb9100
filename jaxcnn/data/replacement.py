"""What training takes in place of an image that can't be read: another one of the same class, or any without labels."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from jaxcnn.data.reading import none_readable_error
from jaxcnn.data.sources import Source
from jaxcnn.errors import UserError

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Replacements:
    """Those of one source. Classes keep their shares, and each readable image of a class is equally likely."""

    source: Source

    def find(self, index: int, draw: tuple[int, ...], read: Callable[[int], Found | None]) -> tuple[int, Found]:
        """(its index, what `read` gives for it) of an image that can be read, in place of image `index`.

        It is a function of `draw` and of what can be read alone: candidates are tried in a random order that `draw`
        decides. Of several labels per image, those with the same labels come first, then all; without labels, all at once.

        Raises:
          UserError: a class of which no image can be read.
        """
        generator = np.random.default_rng((*draw, 1))
        for candidates in self._candidates(index, read):
            for candidate in generator.permutation(candidates).tolist():
                if candidate != index and (found := read(candidate)) is not None:
                    return candidate, found
        raise none_readable_error(self.source)

    def check(self, readable: np.ndarray) -> None:
        """Raises UserError where of a class that has images none is `readable` (N,) bool."""
        for members in self._classes:
            if len(members) and not readable[members].any():
                raise self._unreadable_class(members)

    def _candidates(self, index: int, read: Callable[[int], Found | None]) -> Iterator[np.ndarray]:
        which, groups = self._same_labels
        yield groups[which[index]]
        if self._labels.ndim == 1:
            raise self._unreadable_class(groups[which[index]])
        for members in self._classes:
            if index in members and all(read(member) is None for member in members.tolist()):
                raise self._unreadable_class(members)
        yield np.arange(len(self.source))

    @property
    def _labels(self) -> np.ndarray:
        """Those of the source; without labels all images are of one class."""
        return np.zeros(len(self.source), np.int32) if self.source.labels is None else self.source.labels

    @functools.cached_property
    def _same_labels(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """(N,) the group of each image, and the images of each group: those whose labels are the same."""
        _, which = np.unique(self._labels, axis=0, return_inverse=True)
        which = which.reshape(-1)
        return which, np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])

    @functools.cached_property
    def _classes(self) -> list[np.ndarray]:
        """The images of each class."""
        labels = self._labels
        return self._same_labels[1] if labels.ndim == 1 else [np.flatnonzero(column) for column in labels.T]

    def _unreadable_class(self, members: np.ndarray) -> UserError:
        if self.source.labels is None:
            return none_readable_error(self.source)
        why = none_readable_error(self.source, int(members[0]), "class")
        return UserError(f"{why}; repair them, or leave the class out of the data")

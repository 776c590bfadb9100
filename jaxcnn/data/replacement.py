"""Replacements in training for unreadable images: another image of the same class, or any image if there are no labels."""

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
    """Finds replacements in `source`. Classes keep their shares; each readable image of a class is equally likely."""

    source: Source

    def find(self, index: int, draw: tuple[int, ...], read: Callable[[int], Found | None]) -> tuple[int, Found]:
        """Returns (index, read(index)) of a readable image that replaces image `index`; `read` returns None if it fails.

        The result depends only on `draw`, the seed of the random order in which candidates are tried, and on which images are
        readable. Candidates are the images of the same class. With several labels per image, those with the same labels are
        tried first, then all; without labels, all.

        Raises:
          UserError: no image of a class can be read.
        """
        generator = np.random.default_rng((*draw, 1))
        for candidates in self._candidates(index, read):
            for candidate in generator.permutation(candidates).tolist():
                if candidate != index and (found := read(candidate)) is not None:
                    return candidate, found
        raise none_readable_error(self.source)

    def check(self, readable: np.ndarray) -> None:
        """Raises UserError if a class has images but none of them is `readable` (N,) bool."""
        for members in self._classes:
            if len(members) and not readable[members].any():
                raise self._unreadable_class(members)

    def _candidates(self, index: int, read: Callable[[int], Found | None]) -> Iterator[np.ndarray]:
        group_of, groups = self._same_labels
        yield groups[group_of[index]]
        if self._labels.ndim == 1:
            raise self._unreadable_class(groups[group_of[index]])
        for members in self._classes:
            if index in members and all(read(member) is None for member in members.tolist()):
                raise self._unreadable_class(members)
        yield np.arange(len(self.source))

    @property
    def _labels(self) -> np.ndarray:
        """The labels of the source; zeros if it has none, so that all images are of one class."""
        return np.zeros(len(self.source), np.int32) if self.source.labels is None else self.source.labels

    @functools.cached_property
    def _same_labels(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The groups of images with the same labels: the group of each image (N,), and the indices of each group's images."""
        _, group_of = np.unique(self._labels, axis=0, return_inverse=True)
        group_of = group_of.reshape(-1)
        return group_of, np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])

    @functools.cached_property
    def _classes(self) -> list[np.ndarray]:
        """The indices of the images of each class."""
        labels = self._labels
        return self._same_labels[1] if labels.ndim == 1 else [np.flatnonzero(column) for column in labels.T]

    def _unreadable_class(self, members: np.ndarray) -> UserError:
        if self.source.labels is None:
            return none_readable_error(self.source)
        error = none_readable_error(self.source, int(members[0]), "class")
        return UserError(f"{error}; repair the images, or remove the class from the data")

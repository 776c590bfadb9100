"""Selects the splits and features of a data set from TensorFlow Datasets or Hugging Face."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from jaxcnn.data.sources import PARTS, Source
from jaxcnn.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Ranges of examples, read in this order: (file or split, index of the first example, number of examples)."""

    pieces: tuple[tuple[str, int, int], ...]

    @functools.cached_property
    def ends(self) -> list[int]:
        """The cumulative number of examples up to the end of each range."""
        return list(itertools.accumulate(number for _, _, number in self.pieces))

    def __len__(self) -> int:
        return self.ends[-1] if self.pieces else 0

    def find(self, index: int) -> tuple[str, int]:
        """Returns the file or split that contains example `index`, and the example's index in it."""
        which = min(bisect.bisect_right(self.ends, index), len(self.pieces) - 1)
        name, first, number = self.pieces[which]
        return name, first + index - (self.ends[which] - number)

    def overlap(self, other: "Ranges") -> bool:
        """Returns whether the two have an example in common."""
        return any(
            name == name2 and first < first2 + number2 and first2 < first + number
            for (name, first, number), (name2, first2, number2) in itertools.product(self.pieces, other.pieces)
        )


def choose_parts(
    name: str, splits: Mapping[str, str], available: Iterable[str], read: Callable[[str], tuple[Ranges, Source]]
) -> dict[str, Source]:
    """Returns {"train": source, "validation": source, "test": source} of the data set `name`, each read by `read(split)`.

    `splits` maps train, validation and test to a split, in the library's syntax; "" selects the `available` split of that
    name, if no other one uses it. If no test split has labels, the validation split becomes the test set.

    Raises:
      UserError: there is no training split, or two splits share examples.
    """
    available = list(available)
    chosen = {which: split for which, split in splits.items() if split}
    parts = {which: read(split) for which, split in chosen.items()}
    named = {piece.split("[")[0].strip() for split in chosen.values() for piece in split.split("+")}
    free = [split for split in available if split not in named and "all" not in named]

    def called(which: str) -> list[str]:
        return [split for word, meaning in PARTS.items() if meaning == which for split in free if split.lower() == word]

    for which, candidates in (
        ("train", called("train")),
        ("test", called("test") + called("validation")),
        ("validation", called("validation")),
    ):
        for split in candidates:
            if which not in parts and split in free:
                found = read(split)
                labels = found[1].labels
                if which == "train" or labels is None or labels.max() >= 0:  # withheld labels are -1
                    parts[which], chosen[which] = found, split
                    free.remove(split)
        if "train" not in parts:
            raise UserError(f"data.train_split: {name} has no train split; set one of its splits: {listed(available)}")
    for (first, (ranges, _)), (second, (ranges2, _)) in itertools.combinations(parts.items(), 2):
        if ranges.overlap(ranges2):
            raise UserError(
                f"data.{second}_split: {chosen[second]!r} shares examples with {chosen[first]!r}, the {first} split"
            )
    return {which: source for which, (_, source) in parts.items()}


def choose_features(
    name: str,
    available: Iterable[str],
    images: Sequence[str],
    labels: Sequence[str],
    chosen: Sequence[str],
    preferred: Sequence[str | None] = (None, None),
    maps: Sequence[str] = (),
) -> tuple[str, str]:
    """Returns the names of the image feature and of the label feature: `chosen`, else `preferred`, else the only candidates.

    `images` and `labels` are the candidates among all `available` features of the data set `name`. `maps` are candidates for a
    feature of class maps, which is returned instead of a label if it is chosen or if there are no labels.

    Raises:
      UserError: a chosen feature is not among the candidates, or there are none or several.
    """
    if chosen and len(chosen) != 2:
        raise UserError(f"data.features: {chosen!r} is not a pair of names such as image,label")
    if maps and (chosen[1] in maps if chosen else not labels):
        labels = maps
        if not chosen and len(maps) == 1:
            images = [image for image in images if image not in maps]

    def choose(which: str, candidates: Sequence[str], wanted: str, preferred: str | None) -> str:
        if wanted:
            if wanted not in candidates:
                near = did_you_mean(wanted, candidates)
                raise UserError(f"data.features: {name} has no {which} feature {wanted!r}{near}; it has {listed(candidates)}")
            return wanted
        if preferred in candidates:
            return str(preferred)
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UserError(
                f"data.features: {name} has several {which} features: {listed(candidates)}; set data.features=IMAGE,LABEL"
            )
        raise UserError(
            f"{name} has no {which} feature, so it is not a classification data set; its features are {listed(available)}"
        )

    wanted = tuple(chosen) or ("", "")
    return choose("image", images, wanted[0], preferred[0]), choose("class label", labels, wanted[1], preferred[1])


def label_array(values: Sequence, several: int) -> np.ndarray:
    """Returns class indices (N,) int32 or, if `several` > 0, zeros and ones (N, several) int32 from each example's classes."""
    if not several:
        return np.array(values, np.int32)
    labels = np.zeros((len(values), several), np.int32)
    for row, value in zip(labels, values, strict=True):
        row[value] = 1
    return labels


def listed(names: Iterable[str]) -> str:
    """Returns the names, sorted and separated by commas, for a message."""
    return ", ".join(sorted(names)) or "none"

"""What is taken of a data set that a library describes: which features, and for which part which split."""

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
    """(file or split, first example, number of examples) of what is read, in order."""

    pieces: tuple[tuple[str, int, int], ...]

    @functools.cached_property
    def ends(self) -> list[int]:
        """How many examples come before the end of each piece."""
        return list(itertools.accumulate(number for _, _, number in self.pieces))

    def __len__(self) -> int:
        return self.ends[-1] if self.pieces else 0

    def find(self, index: int) -> tuple[str, int]:
        """The file or split that example `index` is in, and which one it is there."""
        which = min(bisect.bisect_right(self.ends, index), len(self.pieces) - 1)
        name, first, number = self.pieces[which]
        return name, first + index - (self.ends[which] - number)

    def overlap(self, other: "Ranges") -> bool:
        """Whether they have an example in common."""
        return any(
            name == name2 and first < first2 + number2 and first2 < first + number
            for (name, first, number), (name2, first2, number2) in itertools.product(self.pieces, other.pieces)
        )


def choose_parts(
    name: str, splits: Mapping[str, str], there: Iterable[str], part: Callable[[str], tuple[Ranges, Source]]
) -> dict[str, Source]:
    """The train, validation and test parts of the set `name`, each read by `part` from its split.

    `splits` names the split of a part, "" if it has the one `there` that is called so and that no other part uses. Where
    there is no test split with labels, the validation split is the test set.

    Raises:
      UserError: nothing to train on; parts that share examples.
    """
    there = list(there)
    chosen = {which: split for which, split in splits.items() if split}
    parts = {which: part(split) for which, split in chosen.items()}
    named = {piece.split("[")[0].strip() for split in chosen.values() for piece in split.split("+")}
    free = [split for split in there if split not in named and "all" not in named]

    def called(which: str) -> list[str]:
        return [split for word, meaning in PARTS.items() if meaning == which for split in free if split.lower() == word]

    for which, candidates in (
        ("train", called("train")),
        ("test", called("test") + called("validation")),
        ("validation", called("validation")),
    ):
        for split in candidates:
            if which not in parts and split in free:
                found = part(split)
                if which == "train" or found[1].column("label").max() >= 0:  # labels that are kept secret are -1
                    parts[which], chosen[which] = found, split
                    free.remove(split)
        if "train" not in parts:
            raise UserError(f"data.train_split: say which split of {name} is for training; there are {listed(there)}")
    for (one, (ranges, _)), (other, (ranges2, _)) in itertools.combinations(parts.items(), 2):
        if ranges.overlap(ranges2):
            raise UserError(f"data.{other}_split: {chosen[other]!r} shares examples with {chosen[one]!r}, which is for {one}")
    return {which: source for which, (_, source) in parts.items()}


def choose_features(
    name: str,
    there: Iterable[str],
    images: Sequence[str],
    labels: Sequence[str],
    chosen: Sequence[str],
    preferred: Sequence[str | None] = (None, None),
) -> tuple[str, str]:
    """The names of the image and of the label: those `chosen`, or else those `preferred`, or else the only ones.

    `images` and `labels` are the features that could be, of all that are `there`.
    """
    if chosen and len(chosen) != 2:
        raise UserError(f"data.features: {chosen!r} is not a pair of names such as image,label")

    def one(which: str, found: Sequence[str], wanted: str, preferred: str | None) -> str:
        if wanted:
            if wanted not in found:
                near = did_you_mean(wanted, found)
                raise UserError(f"data.features: {name} has no {which} {wanted!r}{near}; there are {listed(found)}")
            return wanted
        if preferred in found:
            return str(preferred)
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"data.features: {name} has several features that are {which}s: {listed(found)}; name two, image,label"
            )
        raise UserError(f"{name} has no {which} feature, so it does not serve classification; its features are {listed(there)}")

    wanted = tuple(chosen) or ("", "")
    return one("image", images, wanted[0], preferred[0]), one("class label", labels, wanted[1], preferred[1])


def label_array(values: Sequence, several: int) -> np.ndarray:
    """(N,) int32 classes; or (N, several) of zeros and ones, from the classes that each example has."""
    if not several:
        return np.array(values, np.int32)
    labels = np.zeros((len(values), several), np.int32)
    for row, value in zip(labels, values, strict=True):
        row[value] = 1
    return labels


def listed(names: Iterable[str]) -> str:
    """Names in a message."""
    return ", ".join(sorted(names)) or "none"

"""Order: which example stands at which place of the training, as a function of the seed and the place alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np


class Places(Protocol):
    """Which example stands at each place of a sequence."""

    training: ClassVar[bool]

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """(n,) places -> (n,) indices of examples; -1 where nothing stands."""

    def draw(self, place: int) -> tuple[int, ...]:
        """What seeds a choice made for this place: the same for the repeats of an example."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The endless sequence of training: in each epoch a permutation of its own, decided by (seed, epoch).

    With `repeats`, each example stands that often in a row, and an epoch of as many places ends as much earlier in it.
    """

    size: int
    seed: int
    repeats: int = 1
    training: ClassVar[bool] = True

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return _by_epoch(places, self.size, lambda epoch: _permutation(self.size, self.seed, epoch, self.repeats))

    def draw(self, place: int) -> tuple[int, ...]:
        """(seed, epoch, number of the example within it)."""
        epoch, offset = divmod(place, self.size)
        return self.seed, epoch, offset // self.repeats


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone: what is cached for it goes by identity
class BalancedOrder:
    """The same where every class comes equally often: an epoch goes round each class as often as it takes."""

    labels: np.ndarray
    seed: int
    training: ClassVar[bool] = True

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return _by_epoch(places, len(self.labels), lambda epoch: _balanced(self, epoch))

    def draw(self, place: int) -> tuple[int, ...]:
        """(seed, place)."""
        return self.seed, place


def _by_epoch(places: np.ndarray, size: int, epoch_order: Callable[[int], np.ndarray]) -> np.ndarray:
    """What stands at `places`, where epoch e is the `size` indices epoch_order(e)."""
    epochs, offsets = np.divmod(places, size)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        indices[here] = epoch_order(int(epoch))[offsets[here]]
    return indices


@functools.lru_cache(maxsize=4)
def _permutation(size: int, seed: int, epoch: int, repeats: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size).repeat(repeats)[:size]


@functools.lru_cache(maxsize=4)
def _balanced(order: BalancedOrder, epoch: int) -> np.ndarray:
    labels, generator = order.labels, np.random.default_rng((order.seed, epoch))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    share = -(-len(labels) // len(classes))
    drawn = [
        np.concatenate([generator.permutation(members) for _ in range(-(-share // len(members)))])[:share]
        for members in classes
    ]
    return generator.permutation(np.concatenate(drawn))[: len(labels)]


@dataclasses.dataclass(frozen=True)
class Once:
    """Every example once, in order, for evaluation; what is past the end is padding."""

    size: int
    training: ClassVar[bool] = False

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        return np.where(places < self.size, places, -1)

    def draw(self, place: int) -> tuple[int, ...]:
        """The place: evaluation has no seed, and replaces nothing."""
        return (place,)

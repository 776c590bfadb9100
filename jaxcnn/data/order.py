"""The order of the examples: which example is at each position of training, a function of the seed and the position alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np


class ExampleOrder(Protocol):
    """A sequence of examples: the index of the example at each position."""

    training: ClassVar[bool]
    """False for a single pass over the data, which replaces no unreadable image"""

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """Returns the indices (n,) of the examples at `positions` (n,); -1 for padding."""

    def draw(self, position: int) -> tuple[int, ...]:
        """Returns the seed of the random choices made for this position, the same for all repeats of an example."""


@dataclasses.dataclass(frozen=True)
class Order:
    """The endless sequence of training: a different permutation in each epoch, a function of (seed, epoch).

    With `repeats`, each example occurs that many times in a row. An epoch still has `size` positions, so it contains only
    size / repeats different examples.
    """

    size: int
    seed: int
    repeats: int = 1
    training: ClassVar[bool] = True

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return _by_epoch(positions, self.size, lambda epoch: _permutation(self.size, self.seed, epoch, self.repeats))

    def draw(self, position: int) -> tuple[int, ...]:
        """Returns (seed, epoch, number of the example within the epoch)."""
        epoch, offset = divmod(position, self.size)
        return self.seed, epoch, offset // self.repeats


@dataclasses.dataclass(frozen=True, eq=False)  # compared by identity, the key under which lru_cache keeps its permutations
class BalancedOrder:
    """As `Order`, with every class equally often: an epoch repeats the images of a small class, each time permuted anew.

    Images of a large class may be missing from an epoch. `labels` are (N,) int.
    """

    labels: np.ndarray
    seed: int
    training: ClassVar[bool] = True

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return _by_epoch(positions, len(self.labels), lambda epoch: _balanced(self, epoch))

    def draw(self, position: int) -> tuple[int, ...]:
        """Returns (seed, position)."""
        return self.seed, position


def _by_epoch(positions: np.ndarray, size: int, epoch_order: Callable[[int], np.ndarray]) -> np.ndarray:
    """Returns the indices at `positions` (n,), where epoch_order(e) returns the indices (size,) of epoch e."""
    epochs, offsets = np.divmod(positions, size)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        in_epoch = epochs == epoch
        indices[in_epoch] = epoch_order(int(epoch))[offsets[in_epoch]]
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
    """Every example once, in order, for evaluation; positions past the end are padding."""

    size: int
    training: ClassVar[bool] = False

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return np.where(positions < self.size, positions, -1)

    def draw(self, position: int) -> tuple[int, ...]:
        """Returns (position,); evaluation makes no random choice."""
        return (position,)

"""Measurement of the time that a run spends on compilation, initialization, training steps and the final test."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

T = TypeVar("T")


class Clock:
    """Seconds that a run has spent, including the time before it was resumed. Only `wall` and `compile` include compilation."""

    def __init__(self) -> None:
        self.compile = 0.0
        self.initial = 0.0  # creation of the initial state
        self.training = 0.0
        self.test = 0.0  # evaluation of the test set
        self._earlier = 0.0
        self._started = time.perf_counter()

    @property
    def wall(self) -> float:
        """The total time from the start until now."""
        return self._earlier + time.perf_counter() - self._started

    def each(self, part: Literal["training"], values: Iterable[T]) -> Iterator[T]:
        """Yields `values`, adding the time that it takes to obtain each to `part`."""
        iterator = iter(values)
        while True:
            with self.counting(part):
                value = next(iterator, None)
            if value is None:
                return
            yield value

    @contextlib.contextmanager
    def counting(self, part: Literal["initial", "training", "test"]) -> Iterator[None]:
        """Adds the time that the block takes, without compilation, to `part`."""
        started, compiled = time.perf_counter(), self.compile
        yield
        elapsed = time.perf_counter() - started - (self.compile - compiled)
        setattr(self, part, getattr(self, part) + elapsed)

    def to_json(self) -> dict[str, float]:
        """Returns the values to be stored in a checkpoint."""
        return {"wall": self.wall, "compile": self.compile, "initial": self.initial, "training": self.training}

    def resume(self, seconds: dict[str, float]) -> None:
        """Adds the time before the run was resumed, as stored by `to_json`."""
        self._earlier += seconds["wall"]
        self.compile += seconds["compile"]
        self.initial += seconds["initial"]
        self.training += seconds["training"]

"""Where the time of a run goes: all of it, compilation, initial parameters, training steps, the final test."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

T = TypeVar("T")


class Clock:
    """Seconds over all parts of a run, if it was resumed: `wall`, `compile`, and what else is named below."""

    def __init__(self) -> None:
        self.compile = 0.0
        self.initial = 0.0  # making the initial state
        self.training = 0.0
        self.test = 0.0  # the test set through the network
        self._earlier = 0.0
        self._started = time.perf_counter()

    @property
    def wall(self) -> float:
        """Everything, from start to now."""
        return self._earlier + time.perf_counter() - self._started

    def each(self, part: Literal["training"], values: Iterable[T]) -> Iterator[T]:
        """The values, counting what it takes to get each."""
        iterator = iter(values)
        while True:
            with self.counting(part):
                value = next(iterator, None)
            if value is None:
                return
            yield value

    @contextlib.contextmanager
    def counting(self, part: Literal["initial", "training", "test"]) -> Iterator[None]:
        """Adds what the block takes to `part`, but for compilation."""
        started, compiled = time.perf_counter(), self.compile
        yield
        elapsed = time.perf_counter() - started - (self.compile - compiled)
        setattr(self, part, getattr(self, part) + elapsed)

    def to_json(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"wall": self.wall, "compile": self.compile, "initial": self.initial, "training": self.training}

    def go_on(self, seconds: dict[str, float]) -> None:
        """Adds what the earlier parts of the run took, as `to_json` gave it."""
        self._earlier += seconds["wall"]
        self.compile += seconds["compile"]
        self.initial += seconds["initial"]
        self.training += seconds["training"]

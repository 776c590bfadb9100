"""Where the time of a run goes: all of it, compilation, initial parameters, training steps, the final test."""

import concurrent.futures
import contextlib
import ctypes
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import jax

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

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Adds what the block takes to `compile`: the time that the run waits for it."""
        started = time.perf_counter()
        yield
        self.compile += time.perf_counter() - started

    def to_json(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"wall": self.wall, "compile": self.compile, "initial": self.initial, "training": self.training}

    def go_on(self, seconds: dict[str, float]) -> None:
        """Adds what the earlier parts of the run took, as `to_json` gave it."""
        self._earlier += seconds["wall"]
        self.compile += seconds["compile"]
        self.initial += seconds["initial"]
        self.training += seconds["training"]


def compile_ahead(jitted: jax.stages.Wrapped, *arguments: Any) -> jax.stages.Compiled:
    """The program of a jitted function for such arguments."""
    return _compiled(jitted.lower(*arguments))


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Gives the memory that compiling took back to the system, where glibc would keep it: up to 0.8 GB beside what trains."""
    program = lowered.compile()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    return program


class AheadOfTime:
    """A jitted function, compiled before its first call for each shape of its last argument; the clock says how long."""

    def __init__(self, jitted: jax.stages.Wrapped, clock: Clock):
        self._jitted, self._clock = jitted, clock
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._begun: dict[Any, concurrent.futures.Future] = {}

    def begin(self, *arguments: Any) -> None:
        """Starts to compile for such arguments, or their shapes, beside what comes before their call.

        They are traced at once; the compiler, which needs no lock of Python's, has a thread of its own.
        """
        with self._clock.compiling():
            lowered = self._jitted.lower(*arguments)
        thread = concurrent.futures.ThreadPoolExecutor(1)
        self._begun[_shape(arguments)] = thread.submit(_compiled, lowered)
        thread.shutdown(wait=False)

    def __call__(self, *arguments: Any) -> Any:
        """What the jitted function returns."""
        if (shape := _shape(arguments)) not in self._programs:
            with self._clock.compiling():
                begun = self._begun.pop(shape, None)
                self._programs[shape] = begun.result() if begun else compile_ahead(self._jitted, *arguments)
        return self._programs[shape](*arguments)


def _shape(arguments: Sequence[Any]) -> tuple[int, ...]:
    return jax.tree.leaves(arguments[-1])[0].shape

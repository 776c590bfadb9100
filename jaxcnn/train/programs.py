"""Ahead-of-time compilation of jitted functions, so that compilation time is measured separately."""

import concurrent.futures
import contextlib
import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxcnn.train.clock import Clock


def compile_ahead(jitted: jax.stages.Wrapped, *arguments: Any) -> jax.stages.Compiled:
    """Compiles a jitted function for these arguments or their shapes."""
    return _compiled(jitted.lower(*arguments))


def _compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles, and returns the memory used by the compiler to the system. glibc would keep up to 0.8 GB of it."""
    program = lowered.compile()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # C libraries other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    return program


class AheadOfTime:
    """A jitted function that is compiled once for each shape of its last argument; `clock` counts the time."""

    def __init__(self, jitted: jax.stages.Wrapped, clock: Clock):
        self._jitted, self._clock = jitted, clock
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._compiling: dict[Any, concurrent.futures.Future] = {}

    def begin(self, *arguments: Any) -> None:
        """Starts to compile for these arguments, or their shapes, in the background.

        Tracing takes place in this thread. The compiler, which does not need Python's global lock, has a separate thread.
        """
        started = time.perf_counter()
        lowered = self._jitted.lower(*arguments)
        self._clock.compile += time.perf_counter() - started
        thread = concurrent.futures.ThreadPoolExecutor(1)
        self._compiling[_shape(arguments)] = thread.submit(_compiled, lowered)
        thread.shutdown(wait=False)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the compiled function, and compiles it first if necessary."""
        if (shape := _shape(arguments)) not in self._programs:
            started = time.perf_counter()
            compiling = self._compiling.pop(shape, None)
            self._programs[shape] = compiling.result() if compiling else compile_ahead(self._jitted, *arguments)
            self._clock.compile += time.perf_counter() - started  # only the time for which the run waits
        return self._programs[shape](*arguments)


def _shape(arguments: Sequence[Any]) -> tuple[int, ...]:
    return jax.tree.leaves(arguments[-1])[0].shape

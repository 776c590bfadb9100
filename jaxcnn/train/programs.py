"""Programs: jitted functions, compiled before their first call, so that the clock can tell compilation from the rest."""

import concurrent.futures
import contextlib
import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxcnn.train.clock import Clock


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
        started = time.perf_counter()
        lowered = self._jitted.lower(*arguments)
        self._clock.compile += time.perf_counter() - started
        thread = concurrent.futures.ThreadPoolExecutor(1)
        self._begun[_shape(arguments)] = thread.submit(_compiled, lowered)
        thread.shutdown(wait=False)

    def __call__(self, *arguments: Any) -> Any:
        """What the jitted function returns."""
        if (shape := _shape(arguments)) not in self._programs:
            started = time.perf_counter()
            begun = self._begun.pop(shape, None)
            self._programs[shape] = begun.result() if begun else compile_ahead(self._jitted, *arguments)
            self._clock.compile += time.perf_counter() - started  # what the run waits for it
        return self._programs[shape](*arguments)


def _shape(arguments: Sequence[Any]) -> tuple[int, ...]:
    return jax.tree.leaves(arguments[-1])[0].shape

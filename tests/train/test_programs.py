"""Ahead-of-time compilation, also in the background, and the clock that counts the time waited for it."""

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from jaxcnn.train import programs
from jaxcnn.train.clock import Clock
from jaxcnn.train.programs import AheadOfTime

SHAPE = jax.ShapeDtypeStruct((3,), jnp.float32)


def doubled():
    """Returns a jitted function, and a list of the threads in which it was traced."""
    traced = []

    @jax.jit
    def double(x):
        traced.append(threading.current_thread())
        return 2 * x

    return double, traced


def test_program_compiled_in_the_background_is_the_one_that_is_called(monkeypatch):
    compiled_in, compiled = [], programs._compiled

    def recorded(lowered):
        compiled_in.append(threading.current_thread())
        return compiled(lowered)

    monkeypatch.setattr(programs, "_compiled", recorded)
    double, traced = doubled()
    program = AheadOfTime(double, Clock())
    program.begin(SHAPE)
    for _ in range(2):
        assert program(jnp.ones(3)).tolist() == [2, 2, 2]
    assert traced == [threading.main_thread()]
    assert len(compiled_in) == 1
    assert compiled_in[0] != threading.main_thread()
    assert program(jnp.ones(2)).tolist() == [2, 2]
    assert compiled_in[1] == threading.main_thread(), "of another shape nothing was begun"


def test_clock_counts_the_time_waited_for_the_compiler(monkeypatch):
    done = threading.Event()
    compiled = programs._compiled
    monkeypatch.setattr(programs, "_compiled", lambda lowered: (done.wait(), compiled(lowered))[1])
    clock, (double, _) = Clock(), doubled()
    program = AheadOfTime(double, clock)
    program.begin(SHAPE)
    time.sleep(0.5)  # other work
    traced, started = clock.compile, time.perf_counter()
    threading.Timer(0.2, done.set).start()
    program(jnp.ones(3))
    waited, elapsed = clock.compile - traced, time.perf_counter() - started
    assert 0.1 < waited <= elapsed, "and nothing of the half second"
    program(jnp.ones(3))
    assert clock.compile == traced + waited


def test_compiler_error_is_raised_by_the_call(monkeypatch):
    def fails(lowered):
        raise RuntimeError("out of registers")

    monkeypatch.setattr(programs, "_compiled", fails)
    program = AheadOfTime(doubled()[0], Clock())
    program.begin(SHAPE)
    with pytest.raises(RuntimeError, match="out of registers"):
        program(jnp.ones(3))

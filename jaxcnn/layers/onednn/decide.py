"""Whether oneDNN computes the convolutions on this CPU, decided once a process when the first one is traced."""

import dataclasses
import functools
import logging
import os
import platform
import queue
import sys
import threading
from collections.abc import Callable

import jax

from jaxcnn.errors import UserError
from jaxcnn.layers.onednn import library, self_test
from jaxcnn.layers.onednn.build import Unavailable
from jaxcnn.layers.onednn.library import Library

VARIABLE = "JAXCNN_CPU_CONV"
SELF_TEST_SECONDS = 30.0
"""Time limit of the self-test, which takes milliseconds. Threads that wait for a missing one would wait forever."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """oneDNN, or None and why not; the reason is "" where nobody expects it: not installed, or XLA asked for."""

    library: Library | None
    reason: str = ""

    def __str__(self) -> str:
        """What a run's log and summary say."""
        return str(self.library) if self.library else "xla" + (f" (not onednn: {self.reason})" if self.reason else "")


@functools.cache
def choice() -> Choice:
    """What JAXCNN_CPU_CONV says, "onednn" or "xla"; without it, oneDNN where it is installed and works.

    Raises:
      UserError: the variable has another value, or asks for oneDNN where that can't be.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "onednn", "xla"):
        raise UserError(f"{VARIABLE}={wanted}: should be onednn, xla, or not set")
    if wanted == "xla" or not (wanted or library.installed()):
        return Choice(None)
    try:
        return Choice(_working())
    except Unavailable as why:
        if wanted:
            raise UserError(f"{VARIABLE}=onednn: {why}") from None
        return Choice(None, str(why))


_told = False


def cpu_convolution() -> str:
    """Returns what computes convolutions: "onednn 3.2 (avx2)", "xla", or "xla (not onednn: reason)"; "" if not on a CPU.

    The caller shows it to the user: the warning that would state the reason is omitted afterwards.

    Raises:
      UserError: JAXCNN_CPU_CONV has an unknown value, or is "onednn" and oneDNN cannot be used.
    """
    global _told
    if jax.default_backend() != "cpu":
        return ""
    _told = True
    return str(choice())


def warn_once() -> None:
    """Says why oneDNN is not used, where it is installed and nobody asked."""
    global _told
    if choice().reason and not _told:
        logging.getLogger("jaxcnn").warning("convolutions by XLA, not oneDNN: %s", choice().reason)
    _told = True


def _working() -> Library:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable(f"only on Linux and x86-64, not on {sys.platform} and {platform.machine()}")
    loaded = library.load()
    _finish_within(SELF_TEST_SECONDS, lambda: self_test.check(loaded))
    return loaded


def _finish_within(seconds: float, check: Callable[[], None]) -> None:
    """Calls `check` in a daemon thread, which is abandoned at the time limit together with the arrays that it uses.

    Raises:
      Unavailable: the time limit is reached.
      Exception: what `check` raises.
    """
    outcomes: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def report() -> None:
        try:
            check()
        except Exception as error:
            outcomes.put(error)
        else:
            outcomes.put(None)

    threading.Thread(target=report, name="onednn-self-test", daemon=True).start()
    try:
        error = outcomes.get(timeout=seconds)
    except queue.Empty:
        raise Unavailable(f"its self-test did not finish within {seconds:g} s") from None
    if error is not None:
        raise error

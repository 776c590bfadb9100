"""Decides whether oneDNN is used in this process, when the first operation is traced."""

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
"""Time limit of the self-test, which takes milliseconds, but never ends if oneDNN's threads wait for one that is missing."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """oneDNN, or None and the reason; the reason is "" if oneDNN is not installed, or if the user chose XLA."""

    library: Library | None
    reason: str = ""

    def __str__(self) -> str:
        """Returns the text for a run's log and summary."""
        return str(self.library) if self.library else "xla" + (f" (not onednn: {self.reason})" if self.reason else "")


@functools.cache
def choice() -> Choice:
    """Returns the choice of the environment variable JAXCNN_CPU_CONV; without it, oneDNN if it is installed and works.

    Raises:
      UserError: JAXCNN_CPU_CONV has an unknown value, or is "onednn" and oneDNN cannot be used.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "onednn", "xla"):
        raise UserError(f"{VARIABLE}={wanted}: expected onednn or xla, or leave it unset")
    if wanted == "xla" or not (wanted or library.installed()):
        return Choice(None)
    try:
        return Choice(_load_and_test())
    except Unavailable as reason:
        if wanted:
            raise UserError(f"{VARIABLE}=onednn: {reason}") from None
        return Choice(None, str(reason))


_reason_shown = False


def cpu_convolution() -> str:
    """Returns what computes convolutions: "onednn 3.2 (avx2)", "xla", or "xla (not onednn: reason)"; "" if not on a CPU.

    The caller shows it to the user: the warning that would state the reason is omitted afterwards.

    Raises:
      UserError: JAXCNN_CPU_CONV has an unknown value, or is "onednn" and oneDNN cannot be used.
    """
    global _reason_shown
    if jax.default_backend() != "cpu":
        return ""
    _reason_shown = True
    return str(choice())


def warn_once() -> None:
    """Logs why oneDNN is not used although it is installed, unless this was shown before (see `cpu_convolution`)."""
    global _reason_shown
    if choice().reason and not _reason_shown:
        logging.getLogger("jaxcnn").warning("XLA computes the convolutions, because oneDNN cannot be used: %s", choice().reason)
    _reason_shown = True


def _load_and_test() -> Library:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable(f"it needs Linux on x86-64, but this is {sys.platform} on {platform.machine()}")
    loaded = library.load()
    _finish_within(SELF_TEST_SECONDS, lambda: self_test.check(loaded))
    return loaded


def _finish_within(seconds: float, check: Callable[[], None]) -> None:
    """Calls `check` in a daemon thread, which is abandoned at the time limit. Its arrays are never freed then.

    Raises:
      Unavailable: the time limit was reached.
      Exception: any exception of `check`.
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
        raise Unavailable(f"the self-test did not finish within {seconds:g} s") from None
    if error is not None:
        raise error

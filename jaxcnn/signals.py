"""Signals that stop a command: at once and in one line, unless a run has steps to save first.

Python runs signal handlers in the main thread only, between two of its instructions, and one call of the compiler can take
minutes. A command therefore has a thread that the signals wake (`signal.set_wakeup_fd`).
"""

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import NoReturn

from jaxcnn import streams

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # terminals and batch systems send these
    if hasattr(signal, name)
)
GRACE = 1.0
"""Seconds that the main thread has for its `finally` blocks; one that is inside the compiler needs more and gets no more."""

by: signal.Signals | None = None
"""The signal that is ending this process."""
ask: Callable[[signal.Signals], str | None] | None = None
"""What a run in progress answers to a signal: None to end by itself, or what to print where the process may end at once."""
_watched = False
_interrupted = False  # the main thread has had its KeyboardInterrupt


def catch_early() -> None:
    """Makes Ctrl-C during the imports of a command one line. `watch` is for everything after them."""
    if "--multiprocessing-fork" in sys.orig_argv:
        return  # a process that reads data for a command imports the script as well
    sys.excepthook = _excepthook
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `start.use_huge_pages` blocks it


def watch() -> None:
    """From now on the process ends by `STOPPING` in one line, with exit code 128 + number. Ignored signals stay ignored."""
    global _watched
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_wait_for_signals, args=(read,), name="signals", daemon=True).start()
    for number in handled():
        signal.signal(number, _interrupt_if_ending)
    _watched = True


def watched() -> bool:
    """Whether this process is a command, and not a notebook."""
    return _watched


def handled() -> list[signal.Signals]:
    """Those of `STOPPING` that are not ignored: nohup ignores SIGHUP."""
    return [number for number in STOPPING if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextlib.contextmanager
def blocked_in_children() -> Iterator[None]:
    """Processes started within this block never get `STOPPING`, also where a whole group of processes does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_now(code: int) -> NoReturn:
    """Ends the process whatever threads it still has."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _leave(code)


def _wait_for_signals(pipe: int) -> None:
    while True:
        (number,) = os.read(pipe, 1)
        if number in STOPPING:
            answer = ask(signal.Signals(number)) if ask else ""
            if answer is not None:
                _end(signal.Signals(number), answer)


def said(number: signal.Signals = signal.SIGINT, answer: str = "") -> int:
    """The exit code of the process that a signal ends; the first call prints the line."""
    global by
    if by is None:
        by = number
        with contextlib.suppress(OSError):
            os.write(2, f"stopped: by {number.name}{answer}\n".encode())
    return 128 + by


def _end(number: signal.Signals, answer: str) -> NoReturn:
    code = said(number, answer)
    with contextlib.suppress(OSError):  # nobody needs to know what the main thread was doing
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        if not _interrupted:
            signal.pthread_kill(threading.main_thread().ident or 0, number)  # wakes it from a system call
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\r\x1b[2K\x1b[?25h")  # a progress bar hides the cursor
    _leave(code)


def _leave(code: int) -> NoReturn:
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():  # else those that are starting end seconds later
            child.kill()
    os._exit(code)


def _interrupt_if_ending(number: int, frame: types.FrameType | None) -> None:
    global _interrupted
    writing = frame is not None and frame.f_code.co_filename == streams.__file__  # it would be written twice
    if by is not None and not _interrupted and not writing:
        _interrupted = True
        raise KeyboardInterrupt


def _excepthook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    if by is None and not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        exit_now(said())

"""Signals that stop a command: it ends immediately with one line on stderr, unless a run has steps to save first.

Python runs signal handlers only in the main thread, between two bytecode instructions, but one call of the compiler can take
minutes. A command therefore has a separate thread that signals wake (`signal.set_wakeup_fd`).
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
"""Seconds after which the process ends even if the `finally` blocks of the main thread have not run, as during compilation."""

stopped_by: signal.Signals | None = None
"""The signal that is ending this process."""
on_signal: Callable[[signal.Signals], str | None] | None = None
"""Set by a run in progress. Returns None if the run will stop by itself, or the message with which the process may end now."""
_watched = False
_interrupted = False  # KeyboardInterrupt was raised in the main thread


def catch_early() -> None:
    """Makes Ctrl-C during the imports of a command end it with one line. After the imports, `watch` takes over."""
    if "--multiprocessing-fork" in sys.orig_argv:
        return  # worker processes that read data import the script as well
    sys.excepthook = _excepthook
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `start.use_huge_pages` blocks it


def watch() -> None:
    """Makes the signals `STOPPING` end the process with one line and exit code 128 + number. Ignored signals stay ignored."""
    global _watched
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_wait_for_signals, args=(read,), name="signals", daemon=True).start()
    for number in handled():
        signal.signal(number, _interrupt_if_ending)
    _watched = True


def watched() -> bool:
    """Returns whether `watch` was called: this process is a command, not a notebook."""
    return _watched


def handled() -> list[signal.Signals]:
    """Returns the signals of `STOPPING` that are not ignored; nohup, for example, ignores SIGHUP."""
    return [number for number in STOPPING if signal.getsignal(number) not in (signal.SIG_IGN, None)]


@contextlib.contextmanager
def blocked_in_children() -> Iterator[None]:
    """Blocks `STOPPING` in processes started within this context, even if the signal is sent to the whole process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_now(code: int) -> NoReturn:
    """Ends the process without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    _leave(code)


def _wait_for_signals(pipe: int) -> None:
    while True:
        (number,) = os.read(pipe, 1)
        if number in STOPPING:
            answer = on_signal(signal.Signals(number)) if on_signal else ""
            if answer is not None:
                _end(signal.Signals(number), answer)


def report_stop(number: signal.Signals = signal.SIGINT, answer: str = "") -> int:
    """Returns the exit code for the signal that stopped the process. Only the first call prints a line and sets the signal."""
    global stopped_by
    if stopped_by is None:
        stopped_by = number
        with contextlib.suppress(OSError):
            os.write(2, f"stopped: received {number.name}{answer}\n".encode())
    return 128 + stopped_by


def _end(number: signal.Signals, answer: str) -> NoReturn:
    code = report_stop(number, answer)
    with contextlib.suppress(OSError):  # hides the traceback of the main thread
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
        # children that are still starting would outlive this process by seconds
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(code)


def _interrupt_if_ending(number: int, frame: types.FrameType | None) -> None:
    global _interrupted
    writing = frame is not None and frame.f_code.co_filename == streams.__file__  # an interrupted write would be repeated
    if stopped_by is not None and not _interrupted and not writing:
        _interrupted = True
        raise KeyboardInterrupt


def _excepthook(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    if stopped_by is None and not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        exit_now(report_stop())

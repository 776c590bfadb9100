"""Signals that stop a run after its current step, with all of it saved."""

import contextlib
import signal
import types


class Interrupts:
    """SIGTERM and Ctrl-C as a wish that the loop can see: `signal` is the one that came, or None.

    A second Ctrl-C ends the program at once.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "Interrupts":
        with contextlib.suppress(ValueError):  # signals can only be handled in the main thread
            self._old = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in getattr(self, "_old", {}).items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: types.FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

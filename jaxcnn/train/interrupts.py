"""Signals that stop a run after its current step, with all of it saved."""

import contextlib
import signal
import types

from jaxcnn import signals


class Interrupts:
    """The signals of `jaxcnn.signals.STOPPING` as a wish that the loop can see: `signal` is the one that came, or None.

    The loop says by `unsaved` whether there are steps to save. While there are none, a signal ends a command at once;
    in a notebook, Ctrl-C raises KeyboardInterrupt. A second Ctrl-C always does.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.unsaved = False

    def __enter__(self) -> "Interrupts":
        self._ask, self._old = signals.ask, {}
        if signals.watched():
            signals.ask = self._answer
            return self
        with contextlib.suppress(ValueError):  # signals can only be handled in the main thread
            self._old = {number: signal.signal(number, self._handle) for number in signals.handled()}
        return self

    def __exit__(self, *_: object) -> None:
        signals.ask = self._ask
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _answer(self, number: signal.Signals) -> str | None:
        again, self.signal = self.signal is not None and number == signal.SIGINT, self.signal or number
        if not self.unsaved:
            return "; there was nothing to save"
        return "; the steps since the last checkpoint are lost" if again else None

    def _handle(self, number: int, _: types.FrameType | None) -> None:
        if self._answer(signal.Signals(number)) is not None and number == signal.SIGINT:
            raise KeyboardInterrupt

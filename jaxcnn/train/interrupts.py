"""Signals that stop a run after the current step and save it."""

import contextlib
import signal
import types

from jaxcnn import signals


class Interrupts:
    """Records the signals of `jaxcnn.signals.STOPPING` for the training loop: `signal` is the first one received, or None.

    The loop sets `unsaved` while there are steps to save. Without such steps, a signal ends a command immediately and
    Ctrl-C in a notebook raises KeyboardInterrupt. A second Ctrl-C always does.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.unsaved = False

    def __enter__(self) -> "Interrupts":
        self._previous_on_signal, self._previous_handlers = signals.on_signal, {}
        if signals.watched():
            signals.on_signal = self._answer
            return self
        with contextlib.suppress(ValueError):  # signals can only be handled in the main thread
            self._previous_handlers = {number: signal.signal(number, self._handle) for number in signals.handled()}
        return self

    def __exit__(self, *_: object) -> None:
        signals.on_signal = self._previous_on_signal
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _answer(self, number: signal.Signals) -> str | None:
        second_interrupt, self.signal = self.signal is not None and number == signal.SIGINT, self.signal or number
        if not self.unsaved:
            return "; there was nothing to save"
        return "; the steps since the last checkpoint are lost" if second_interrupt else None

    def _handle(self, number: int, _: types.FrameType | None) -> None:
        if self._answer(signal.Signals(number)) is not None and number == signal.SIGINT:
            raise KeyboardInterrupt

"""Standard output and error as they may be: closed, full, cut off by `head`, or without Unicode."""

import codecs
import contextlib
import io
import json
import os
import sys
from typing import Any, TextIO


class _Stream(io.FileIO):
    """A file descriptor that remembers why it could not be written, and accepts everything afterwards."""

    error: OSError | None = None
    needed = False

    def write(self, data: Any, /) -> int:
        """The number of bytes accepted; raises the first error where the output is `needed`."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
                if self.needed:
                    raise
        return len(data)


_stdout: _Stream | None = None


def make_safe() -> None:
    """Prepares both for a command: text that the encoding lacks is escaped (× as \\u00d7); a failing stderr is no error."""
    global _stdout
    for descriptor in range(3):  # else the next file to be opened would receive what libraries write to a closed stderr
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)
    codecs.register_error("jaxcnn.escape", _escape)
    _stdout, stderr = _Stream(1, "wb", closefd=False), _Stream(2, "wb", closefd=False)
    _stdout.needed = True
    sys.stdout, sys.stderr = _text(_stdout, sys.stdout), _text(stderr, sys.stderr)
    sys.unraisablehook = _unraisable


def go_on_without_stdout() -> None:
    """From now on stdout, too, may fail: what follows is not shown."""
    if _stdout:
        _stdout.needed = False


def stdout_error() -> OSError | None:
    """Why stdout can't be written: BrokenPipeError where its reader has ended. None where it works."""
    return _stdout.error if _stdout else None


def _text(raw: _Stream, stream: TextIO | None) -> TextIO:
    encoding = getattr(stream, "encoding", None)
    buffering = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "jaxcnn.escape", line_buffering=buffering)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """As JSON escapes it, so that JSON stays JSON."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _unraisable(unraisable: Any) -> None:
    """Prints what could not be raised, except what tensorstore's threads tell a loop that a failed write has ended."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)

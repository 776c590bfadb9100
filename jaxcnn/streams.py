"""Standard output and error that may be closed, full, piped into `head`, or unable to encode Unicode."""

import codecs
import contextlib
import io
import json
import os
import sys
from typing import Any, TextIO


class _Stream(io.FileIO):
    """A file descriptor that stores its first write error and then discards all further output."""

    error: OSError | None = None
    required = False

    def write(self, data: Any, /) -> int:
        """Returns the number of bytes accepted. Raises the first error if the output is `required`."""
        if self.error is None:
            try:
                return super().write(data)
            except OSError as error:
                self.error = error
                if self.required:
                    raise
        return len(data)


_stdout: _Stream | None = None


def make_safe() -> None:
    """Prepares both streams for a command: characters that cannot be encoded are escaped; a failing stderr is ignored."""
    global _stdout
    # Otherwise the next file opened would get the descriptor of a closed stderr, and libraries would write to it.
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)
    codecs.register_error("jaxcnn.escape", _escape)
    _stdout, stderr = _Stream(1, "wb", closefd=False), _Stream(2, "wb", closefd=False)
    _stdout.required = True
    sys.stdout, sys.stderr = _text(_stdout, sys.stdout), _text(stderr, sys.stderr)
    sys.unraisablehook = _unraisable


def continue_without_stdout() -> None:
    """Ignores errors of stdout from now on; further output may be lost."""
    if _stdout:
        _stdout.required = False


def stdout_error() -> OSError | None:
    """Returns the error of stdout (BrokenPipeError if its reader has ended), or None if it works."""
    return _stdout.error if _stdout else None


def _text(raw: _Stream, stream: TextIO | None) -> TextIO:
    encoding = getattr(stream, "encoding", None)
    buffering = raw.isatty() or raw.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "jaxcnn.escape", line_buffering=buffering)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escapes characters as in JSON (× as \\u00d7), so that JSON output stays valid."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _unraisable(unraisable: Any) -> None:
    """Prints exceptions that cannot be raised, except those of tensorstore's threads after a failed write."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)

"""Errors that users can correct: their messages state in one line what is wrong and what would be right."""

import difflib
import errno
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """An error that its message fully explains. Commands print it in one line without a traceback and exit with code 2."""

    exit_code = 2
    label = "error"

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RunFailed(UserError):
    """A failure with valid settings, such as a loss that is not finite or a full disk. Commands exit with code 1."""

    exit_code = 1


def printable(text: str) -> str:
    r"""Returns text that any stream can write: bytes of file names that are not UTF-8 are written like \xe9."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """Returns the hint that ends a message about a wrong name: ' (did you mean "x"?)', or '' if no name is similar."""
    matches = difflib.get_close_matches(str(name), list(names), n=3, cutoff=0.6)
    quoted = " or ".join(f'"{match}"' for match in matches)
    return f" (did you mean {quoted}?)" if matches else ""


def first_line(error: BaseException) -> str:
    """Returns an exception's type and the first line of its message: 'ValueError: …'."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def explained(error: BaseException, folder: str | Path = ".") -> str | None:
    """Returns a one-line explanation if the operating system or a lack of memory caused the error, else None.

    `folder` is named in the message if the error names no file.
    """
    text = " ".join(str(error).split())
    number, file, reason = None, "", ""
    if isinstance(error, OSError):
        number, reason = error.errno, error.strerror or first_line(error)
        file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    elif code := re.search(r"os_error_code='(\d+)'", text):  # tensorstore, which writes the arrays of checkpoints
        number, reason = int(code[1]), os.strerror(int(code[1]))
        file = next(iter(re.findall(r'local file "([^"]+)"', text)), "")
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "can't start new thread" in text:
        return "out of memory" + (f" ({text[:200]})" if text else "") + "; reduce batch_size"
    file = file.partition(".orbax-checkpoint-tmp")[0]  # checkpoints/STEP
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{file or folder} can't be written: {reason} ({free_space(file or folder)})"
    return f"{file}: {reason}" if file else reason or None


def free_space(path: str | Path) -> str:
    """Returns the free space of the file system that contains `path`: "12.3 MB free"."""
    existing = Path(path).absolute()
    while not existing.exists():
        existing = existing.parent
    return f"{shutil.disk_usage(existing).free / 1e6:,.1f} MB free"

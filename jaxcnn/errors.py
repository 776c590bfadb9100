"""Mistakes of the person at the keyboard: one line that names what is wrong and what would be right."""

import difflib
import errno
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake that its message alone explains; commands print it as one line and exit with 2, without a traceback."""

    exit_code = 2
    label = "error"

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RunFailed(UserError):
    """The settings were right but the run did not succeed: its loss is not finite, some inputs were unreadable."""

    exit_code = 1


def printable(text: str) -> str:
    r"""A file's name, or text with one, as any stream can write it: bytes that are not UTF-8 as \xe9."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """The hint that ends an error about a wrong name: ' (did you mean "x"?)', or ''."""
    near = difflib.get_close_matches(str(name), list(names), n=3, cutoff=0.6)
    quoted = " or ".join(f'"{n}"' for n in near)
    return f" (did you mean {quoted}?)" if near else ""


def first_line(error: BaseException) -> str:
    """What went wrong, in one line, for an error that is not ours: 'ValueError: …'."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def explained(error: BaseException, folder: str | Path = ".") -> str | None:
    """One line for what the operating system or a lack of memory caused; None for all other errors.

    An error that names no file happened somewhere in `folder`.
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
        return "out of memory" + (f" ({text[:200]})" if text else "") + "; a smaller batch_size needs less"
    file = file.partition(".orbax-checkpoint-tmp")[0]  # checkpoints/STEP
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{file or folder} can't be written: {reason} ({free_space(file or folder)})"
    return f"{file}: {reason}" if file else reason or None


def free_space(path: str | Path) -> str:
    """How much a file system takes: "12.3 MB are free"."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free"

"""Processes that are measured in turns: one works when it is told to by a line, while the others wait for theirs.

Imports nothing but the standard library, so that PyTorch and TensorFlow may live in environments without JAX.
"""

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Row = dict[str, Any]


class WorkerFailed(Exception):
    """A process ended without an answer; the message says which, and the last line that it wrote, which is `said`."""

    def __init__(self, message: str, said: str = ""):
        super().__init__(message + (f": {said}" if said else ""))
        self.said = said


class Worker(contextlib.AbstractContextManager):
    """`python program spec` (as JSON), which answers each line on its input with a line of JSON on its output."""

    def __init__(
        self, program: str, spec: Row, *, title: str, python: str | None = None, environment: Mapping[str, str] | None = None
    ):
        self.title = title
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed where this ends)
        self._process = subprocess.Popen(
            [python or sys.executable, program, json.dumps(spec)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            start_new_session=True,  # a group with its compilers, which end with it
        )  # fmt: skip

    def ask(self, message: Any = None) -> Any:
        """The answer to one line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self, limit: float | None = None) -> Any:
        """The next line that comes; the first of some programs comes unasked, when they are ready, within `limit` seconds."""
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(limit or 0, give_up)
        if limit:
            timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        if late.is_set():
            raise WorkerFailed(f"{self.title}: not ready within {limit:g} s")
        self._errors.seek(0)
        said = [text for line in self._errors if (text := line.strip())]
        raise WorkerFailed(f"{self.title}: ended with code {code}", said[-1] if said else "")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20 if kind is None else 0)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def answers() -> IO[str]:
    """What a program's answers are written to. What a library prints goes to its errors, not between them."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def serve_steps(out: IO[str], ready: Row, steps: Callable[[int], Any], peak: Callable[[], int]) -> None:
    """Says that it is ready; then, for each {"seconds", "least"} that comes in, does at least that and says how long it took.

    `steps(n)` does n steps and waits for them.
    """
    start = time.perf_counter()
    steps(1)
    a_step = time.perf_counter() - start
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        steps(1)  # not counted: while others worked, this process's memory was taken out of caches, and perhaps its pages away
        count = max(turn["least"], math.ceil(turn["seconds"] / a_step))
        start = time.perf_counter()
        steps(count)
        seconds = time.perf_counter() - start
        a_step = seconds / count
        print(json.dumps({"steps": count, "seconds": seconds, "peak_bytes": peak()}), file=out, flush=True)


def figure(name: str, values: Sequence[float]) -> Row:
    """The median, and the least and greatest."""
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def peak_bytes() -> int:
    """Most memory that this process ever held. (getrusage would start with what its parent held when it was forked.)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

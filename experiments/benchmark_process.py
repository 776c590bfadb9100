"""Worker processes that are measured alternately: each works when it receives a line, while the others wait.

It imports only the standard library, so that PyTorch and TensorFlow can be in environments without JAX.
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
    """A process ended without an answer. The message names it and ends with `last_line`, the last line of its stderr."""

    def __init__(self, message: str, last_line: str = ""):
        super().__init__(message + (f": {last_line}" if last_line else ""))
        self.last_line = last_line


class Worker(contextlib.AbstractContextManager):
    """The process `python program spec` (spec as JSON), which answers each line on stdin with a line of JSON on stdout."""

    def __init__(
        self, program: str, spec: Row, *, title: str, python: str | None = None, environment: Mapping[str, str] | None = None
    ):
        self.title = title
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [python or sys.executable, program, json.dumps(spec)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            start_new_session=True,  # a group with its compiler processes, which are killed with it
        )  # fmt: skip

    def ask(self, message: Any = None) -> Any:
        """Sends a message and returns the answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self, limit: float | None = None) -> Any:
        """Returns the next answer. Some programs send a first one unasked when they are ready, within `limit` seconds."""
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
        lines = [text for line in self._errors if (text := line.strip())]
        raise WorkerFailed(f"{self.title}: ended with exit code {code}", lines[-1] if lines else "")

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
    """Returns the stream for a program's answers, and redirects stdout, to which libraries may print, to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def serve_steps(out: IO[str], ready: Row, steps: Callable[[int], Any], peak: Callable[[], int]) -> None:
    """Sends `ready`; then, for each {"seconds", "least"} received, runs for at least that long and sends the time it took.

    `steps(n)` runs n steps and waits for their results; `peak()` returns the peak memory in bytes.
    """
    start = time.perf_counter()
    steps(1)
    seconds_per_step = time.perf_counter() - start
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        turn = json.loads(line)
        steps(1)  # not measured: other processes have evicted this one's memory from the caches, and perhaps its pages
        count = max(turn["least"], math.ceil(turn["seconds"] / seconds_per_step))
        start = time.perf_counter()
        steps(count)
        seconds = time.perf_counter() - start
        seconds_per_step = seconds / count
        print(json.dumps({"steps": count, "seconds": seconds, "peak_bytes": peak()}), file=out, flush=True)


def figure(name: str, values: Sequence[float]) -> Row:
    """Returns the median as `name`, and the minimum and maximum as `name`_range."""
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def peak_bytes() -> int:
    """Returns this process's peak memory in bytes. (getrusage would include the peak of the parent before the fork.)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""Programs that tests start. They are killed on timeout, when their test ends, and when pytest dies."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TIMEOUT = 300  # seconds, so long that only a program that hangs reaches it
# Runs in the child before its program, so that Linux kills it when its parent dies (PR_SET_PDEATHSIG, which execv keeps).
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the tests have ended")
os.execv(sys.argv[2], sys.argv[2:])
"""
_started: list[subprocess.Popen] = []


class Finished(NamedTuple):
    """The exit code and the output of a program."""

    code: int
    out: str
    err: str


def start(*arguments, **options):
    """Starts a Python program, `start("-c", "print(1)")`, in a new session, with stdout and stderr as text in pipes."""
    command = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes | options)
    _started.append(process)
    return process


def finish(process, timeout=TIMEOUT):
    """Waits until the program ends. Returns its exit code and output.

    Raises:
      subprocess.TimeoutExpired: it did not end within `timeout` seconds, and was killed.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        kill(process)
    return Finished(process.returncode, out, err)


def run(*arguments, timeout=TIMEOUT, **options):
    """Starts a Python program and waits until it ends."""
    return finish(start(*arguments, **options), timeout)


def experiment(script, *arguments, cache="", **options):
    """Starts experiments/SCRIPT as a user would, without the tests' settings of JAX; `cache` is the compilation cache."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    paths = (ROOT, ROOT / "tests")
    settings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    return start(ROOT / "experiments" / script, *arguments, **{"cwd": ROOT, "env": clean | settings} | options)


def kill(process):
    """Kills the program and those that it started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have already ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    if process in _started:
        _started.remove(process)


def kill_all():
    """Kills all programs that are still running."""
    for process in tuple(_started):
        kill(process)

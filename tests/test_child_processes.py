"""Processes started by a test do not outlive it. One that did once ran for half an hour and made other tests fail."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from common import child_processes
from common.child_processes import ROOT

SLEEP = """
import subprocess
print(subprocess.Popen(["sleep", "300"]).pid, flush=True)
subprocess.run(["sleep", "300"])
"""
PARENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from common import child_processes
child = child_processes.start("-c", "import time; print('started', flush=True); time.sleep(300)")
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def has_ended(pid, within=10):
    """Returns whether a process ends within `within` seconds, or is a zombie ("Z")."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.process
def test_a_program_and_its_children_end_at_the_time_limit():
    process = child_processes.start("-c", SLEEP)
    child = int(process.stdout.readline())
    with pytest.raises(subprocess.TimeoutExpired):
        child_processes.finish(process, timeout=0.1)
    assert process.returncode == -signal.SIGKILL
    assert has_ended(child)


@pytest.mark.process
def test_a_program_ends_with_the_process_that_started_it():
    code, out, _ = child_processes.run("-c", PARENT, ROOT / "tests")
    assert code == -signal.SIGKILL
    assert has_ended(int(out))

"""Signals end a command with one line: immediately, or after the current step if there are steps to save."""

import os
import signal
import time

import pytest
from common import child_processes
from common.child_processes import ROOT, finish

from jaxcnn import signals
from jaxcnn.train.interrupts import Interrupts

# The main thread executes C code, as in the compiler, and runs no Python signal handlers.
INSIDE_C = "print('ready', flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"


def program(body, environment=()):
    """Starts a command whose main is `body`, and returns its process once it has printed `ready`."""
    imports = "import hashlib, os, signal, sys, time\nfrom jaxcnn import command"
    text = f"{imports}\ndef main(*_):\n {body}\ncommand.run(main)"
    process = child_processes.start("-c", text, env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment))
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.process
@pytest.mark.parametrize("number", signals.STOPPING)
def test_signal_ends_a_command_in_one_line_even_inside_the_compiler(number):
    process = program(INSIDE_C)
    process.send_signal(number)
    code, out, err = finish(process, timeout=60)
    assert (code, out, err) == (128 + number, "", f"stopped: received {number.name}\n")


@pytest.mark.process
def test_signal_lets_python_clean_up_silently(tmp_path):
    body = f"""
 import tempfile
 try:
  with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):
   print('ready', flush=True); time.sleep(200)
 except KeyboardInterrupt:
  os.system('echo cleaning >&2')
  raise ImportError('what a library makes of it')
"""
    process = program(body)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, timeout=60)
    assert (code, err) == (143, "stopped: received SIGTERM\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_ctrl_c_during_the_imports_is_one_line():
    text = "from jaxcnn import command\nimport os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(100)"
    code, out, err = child_processes.run("-c", text, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    assert (code, out, err) == (130, "", "stopped: received SIGINT\n")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_ignored_signal_stays_ignored(number):
    body = f"print('ready', flush=True); sys.stdin.readline(); print(signal.getsignal({int(number)}) is signal.SIG_IGN)"
    reader, writer = os.pipe()
    text = f"import signal, sys; signal.signal({int(number)}, signal.SIG_IGN)\nfrom jaxcnn import command\n"
    text += f"def main(*_):\n {body}\ncommand.run(main)"
    process = child_processes.start("-c", text, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=reader)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    os.write(writer, b"\n")
    assert finish(process, timeout=60) == (0, "True\n", "")
    os.close(reader)
    os.close(writer)


@pytest.mark.process
def test_second_ctrl_c_ends_a_run_that_is_saving():
    body = """
 from jaxcnn.train.interrupts import Interrupts
 with Interrupts() as interrupts:
  interrupts.unsaved = True
  print('ready', flush=True)
  while not interrupts.signal: time.sleep(0.01)
  print(interrupts.signal.name, flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
"""
    process = program(body)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "SIGINT\n"
    process.send_signal(signal.SIGUSR1)  # the first signal determines the exit code
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, timeout=60)
    assert (code, err) == (130, "stopped: received SIGINT; the steps since the last checkpoint are lost\n")


RUN = """
 from jaxcnn import train
 from jaxcnn.train import programs
 from common.small_runs import small_config
 def compiler(lowered):
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
 programs._compiled = compiler
 from rich.console import Console
 train.run(small_config(), {workdir!r}, console=Console(file=open(os.devnull, 'w')))
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_does_not_wait_for_the_compiler_before_its_first_step(tmp_path, number):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = program(RUN.format(workdir=str(tmp_path / "run")), environment={"PYTHONPATH": paths})
    process.send_signal(number)
    code, _, err = finish(process, timeout=60)
    assert (code, err) == (128 + number, f"stopped: received {number.name}; there was nothing to save\n")


def send_ctrl_c():
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)


@pytest.mark.parametrize("number", signals.STOPPING)
def test_in_a_notebook_a_run_with_steps_to_save_receives_the_signal(number):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        interrupts.unsaved = True
        signal.raise_signal(number)
        assert interrupts.signal == number
        with pytest.raises(KeyboardInterrupt):
            send_ctrl_c()
        assert interrupts.signal == number
    assert signal.getsignal(number) == before


def test_in_a_notebook_ctrl_c_before_the_first_step_interrupts():
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        send_ctrl_c()


WORKERS = """
from common.small_runs import small_config
def get_config():
    return small_config(**{"data.workers": 2, "total": "20000steps", "log.every": "1steps"})
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_signal_to_the_process_group_lets_the_run_save_before_its_workers_end(tmp_path, number):
    (tmp_path / "config.py").write_text(WORKERS)
    process = child_processes.experiment("train.py", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}")
    assert any(line.startswith("step ") for line in process.stdout)
    os.killpg(process.pid, number)
    code, _, err = finish(process)
    assert code == 128 + number
    assert err.startswith(f"stopped: received {number.name} after step ")
    assert len(err.splitlines()) == 1, err
    assert list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))

"""Commands whose standard output or error is closed, full, cut off or without Unicode."""

import json
import os
import subprocess
import sys

import pytest
from common import child_processes
from common.child_processes import ROOT, experiment, finish

from jaxcnn import streams

SETTINGS = ["--config=configs/lenet5_digits.py", "--print_config"]
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


def command(body, **options):
    """A command whose main is `body`."""
    program = f"import os, sys\nfrom jaxcnn import command, streams\ndef main(*_):\n {body}\ncommand.run(main)"
    return child_processes.start("-c", program, env=os.environ | {"PYTHONPATH": str(ROOT)}, **options)


@pytest.mark.process
def test_characters_outside_ascii_are_escaped_as_in_json():
    text = 'é × 😀 "\\ \udce9'  # the last is a byte of a file name that is not UTF-8
    program = f"print({text!r}); print(__import__('json').dumps({text!r}, ensure_ascii=False))"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    run = f"from jaxcnn import command; command.run(lambda *_: exec({program!r}))"
    code, out, err = child_processes.run("-c", run, env=env)
    assert (code, err) == (0, "")
    plain, quoted = out.splitlines()
    assert plain == '\\u00e9 \\u00d7 \\ud83d\\ude00 "\\ \\udce9'
    assert json.loads(quoted) == text


@pytest.mark.process
def test_closed_pipe_is_not_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    process = experiment("train.py", *SETTINGS, stdout=writer)
    os.close(writer)
    code, _, err = finish(process)
    assert (code, err) == (0, "")


@FULL
@pytest.mark.process
def test_result_that_cannot_be_written_is_reported_in_one_line():
    with open("/dev/full", "w") as full:
        code, _, err = finish(experiment("train.py", *SETTINGS, stdout=full))
    assert (code, err) == (1, "error: standard output: No space left on device\n")


@FULL
@pytest.mark.process
@pytest.mark.parametrize("size", [1, 100_000])
def test_command_that_writes_files_continues_without_stdout(tmp_path, size):
    body = f"streams.continue_without_stdout(); print('x' * {size}, flush=True); print('y'); open({str(tmp_path / 'f')!r}, 'w')"
    with open("/dev/full", "w") as full:
        code, _, err = finish(command(body, stdout=full))
    assert (code, err) == (0, "")
    assert (tmp_path / "f").exists()


@pytest.mark.process
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_files_do_not_get_the_descriptors_of_closed_streams(tmp_path, closed):
    body = f"f = open({str(tmp_path / 'f')!r}, 'w'); f.write(str(f.fileno())); f.flush(); os.write(2, b'from C'); print('text')"
    program = f"import os, sys\nfrom jaxcnn import command\ndef main(*_):\n {body}\n sys.exit(3)\ncommand.run(main)"
    line = f'exec "$0" -c "$1" {closed}'
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    shell = subprocess.run(["sh", "-c", line, sys.executable, program], env=env, capture_output=True, timeout=100, check=False)
    assert shell.returncode == 3, shell
    assert int((tmp_path / "f").read_text()) > 2


@FULL
@pytest.mark.process
def test_message_that_cannot_be_written_does_not_change_the_exit_code():
    with open("/dev/full", "w") as full:
        code, out, _ = finish(experiment("train.py", "--nope", stderr=full))
    assert (code, out) == (2, "")


def test_library_calls_leave_the_streams_alone():
    before = sys.stdout, sys.stderr
    streams.continue_without_stdout()
    assert (sys.stdout, sys.stderr) == before
    assert streams.stdout_error() is None

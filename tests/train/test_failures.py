"""A full disk and a lack of memory end a run with one line, and the same command resumes it later."""

import errno
import json
import os

import pytest
from common import child_processes
from common.child_processes import ROOT, finish

from jaxcnn.errors import RunFailed, explained
from jaxcnn.train.failures import explain_failures

PROGRAM = """
import resource, sys
from jaxcnn import command, signals, streams

def main(*_):
    from common.small_runs import small_config
    from jaxcnn import train
    from jaxcnn.train.checkpoints import Checkpoints
    saves = iter(range(100))
    save = Checkpoints.save
    def limited(self, *arguments, **more):
        if next(saves) == {at}:  # later writes of more than 30 kB fail: those of arrays
            self.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
        save(self, *arguments, **more)
    Checkpoints.save = limited
    print(train.run(small_config(), {workdir!r})["params_sha256"])

command.run(main)
"""


def run(workdir, at=-1, size=30_000):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    text = PROGRAM.format(workdir=str(workdir), at=at, size=size)
    env = os.environ | {"PYTHONPATH": paths, "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "xla")}
    return finish(child_processes.start("-c", text, env=env))


@pytest.mark.slow
@pytest.mark.process
def test_full_disk_is_reported_in_one_line_and_the_run_resumes_bit_exactly(tmp_path):
    expected = run(tmp_path / "undisturbed").out.splitlines()[-1]
    for at, kept in (
        (0, "no checkpoint had been written"),
        (2, "the checkpoint of step 14 is intact"),
    ):
        workdir = tmp_path / str(at)
        code, _, err = run(workdir, at)
        assert (code, len(err.splitlines())) == (1, 1), err
        assert err.startswith(f"error: {workdir}/checkpoints/")
        assert f"can't be written: {os.strerror(errno.EFBIG)} (" in err
        assert f" MB free); {kept}" in err
        code, out, err = run(workdir)
        assert (code, err) == (0, "")
        assert ("resumed at step 14" in out) == (at == 2)
        assert out.splitlines()[-1] == expected
        assert json.loads((workdir / "summary.json").read_text())["params_sha256"] == expected


@pytest.mark.slow
@pytest.mark.process
def test_file_in_place_of_a_folder_is_reported_in_one_line_and_does_not_hang(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").touch()
    code, _, err = run(tmp_path / "run")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert str(tmp_path / "run" / "checkpoints") in err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"can't be written: No space .* \([\d,.]+ MB free\)"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "^/x/y: Permission denied; "),
        (ValueError("a local file \"/x/5.orbax-checkpoint-tmp/d\": failed [os_error_code='28']"), "^/x/5 can't be .*No space"),
        (MemoryError(), "^out of memory; reduce batch_size"),
        (RuntimeError("can't start new thread"), "^out of memory .can't start new thread"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes"), "^out of memory .*allocating 9 bytes"),
    ],
)
def test_failure_is_explained_with_the_latest_intact_checkpoint(tmp_path, error, line):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    (tmp_path / "checkpoints" / "30").mkdir()
    (tmp_path / "checkpoints" / "40.orbax-checkpoint-tmp").mkdir()
    with pytest.raises(RunFailed, match=line) as failure, explain_failures(tmp_path):
        raise error
    assert "\n" not in str(failure.value)
    assert "the checkpoint of step 30 is intact" in str(failure.value)


def test_error_in_the_code_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), explain_failures(tmp_path):
        1 / 0  # noqa: B018
    assert explained(ValueError("[os_error_code]")) is None

"""What a command sets before JAX starts: the cache of compiled programs works, never hurts, and stays where it may be."""

import os

import pytest
from common import child_processes
from common.child_processes import ROOT, finish

from jaxcnn import start

PROGRAM = """
import sys
from jaxcnn import command

def main(arguments, config):
    import jax, jax.numpy as jnp
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
    print(float(jax.jit(lambda x: jnp.sin(x).sum() + 1)(jnp.arange(8.0))), len(hits))

assert "jax" not in sys.modules, "it was imported before its environment stood"
command.run(main)
"""


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """An environment without settings of JAX, whose cache folder is a test's own."""
    for name in list(os.environ):
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


def program(**environment):
    settings = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return child_processes.start("-c", PROGRAM, env=os.environ | settings | environment)


def outcome(process):
    """(value, programs that came from the cache); nothing was said on stderr."""
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    value, hits = out.split()
    return value, int(hits)


@pytest.mark.process
def test_second_start_takes_the_first_ones_programs_and_computes_the_same(clean, tmp_path):
    value, hits = outcome(program())
    again, hits_again = outcome(program())
    assert value == again
    assert hits == 0
    assert hits_again > 0
    assert all(file.relative_to(tmp_path).parts[:3] == ("cache", "jaxcnn", "xla") for file in tmp_path.rglob("jit_*"))


@pytest.mark.slow
@pytest.mark.process
def test_damaged_entries_are_compiled_again_without_a_word(clean, tmp_path):
    value, _ = outcome(program())
    entries = list(tmp_path.rglob("jit_*"))
    for entry in entries:  # as a write that a kill cut off leaves it
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    assert entries
    assert outcome(program()) == (value, 0)


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_at_once_share_the_cache(clean):
    value, _ = outcome(program())
    both = [program(), program()]
    assert {outcome(process)[0] for process in both} == {value}


@pytest.mark.process
def test_folder_that_cannot_be_written_is_done_without(clean, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert outcome(program())[1] == 0
    start.prepare()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("given", ["", "/elsewhere"])
def test_what_the_user_set_stays(clean, tmp_path, given):
    clean.setenv("JAX_COMPILATION_CACHE_DIR", given)
    clean.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    start.prepare()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == given
    assert os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "7"
    assert not (tmp_path / "cache").exists()


def test_oldest_programs_are_dropped_when_the_cache_is_full(clean, tmp_path):
    clean.setattr(start, "CACHE_BYTES", 25)
    other = tmp_path / "cache" / "jaxcnn" / "xla" / "another-processor"
    other.mkdir(parents=True)
    for age, name in enumerate(("new", "middle", "old")):
        (other / name).write_bytes(b"x" * 10)
        os.utime(other / name, (1000 - age, 1000 - age))
    start.prepare()
    assert sorted(file.name for file in other.iterdir()) == ["middle", "new"]


def test_gpu_flags_are_set_where_there_is_a_gpu_and_the_users_own_stay(clean):
    start.prepare()
    assert "xla_gpu" not in os.environ.get("XLA_FLAGS", ""), "this machine has a GPU: the test has to be told"
    clean.setattr(start, "_has_nvidia_gpu", lambda: True)
    clean.setenv("XLA_FLAGS", "--xla_gpu_cudnn_gemm_fusion_level=0")
    start.prepare()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_gpu_cudnn_gemm_fusion_level=0", "--xla_gpu_enable_latency_hiding_scheduler=true",
    ]  # fmt: skip


@pytest.mark.process
def test_gpu_flags_are_known_to_the_installed_jaxlib(clean):
    """XLA ends the process at one that it does not know, on any device."""
    flags = " ".join(f"--{name}={value}" for name, value in start.GPU_FLAGS.items())
    outcome(program(XLA_FLAGS=flags))


TUNABLES = (
    "import os, sys; from jaxcnn import command; command.run(lambda *_: print(sys.argv, os.environ.get('GLIBC_TUNABLES')))"
)


def tunables(**environment):
    inherited = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", start._SET_BY_US)}
    return child_processes.run("-c", TUNABLES, "photo.png", env=inherited | environment)


@pytest.mark.process
def test_commands_start_again_once_with_huge_pages_and_the_same_arguments():
    with_pages = start.HUGE_PAGES if start._huge_pages_available() else None
    assert tunables(JAXCNN_HUGE_PAGES="on").out == f"['-c', 'photo.png'] {with_pages}\n"
    assert tunables(JAXCNN_HUGE_PAGES="off").out == "['-c', 'photo.png'] None\n"
    own = "glibc.malloc.hugetlb=0"
    assert tunables(JAXCNN_HUGE_PAGES="on", GLIBC_TUNABLES=own).out == f"['-c', 'photo.png'] {own}\n"
    mistaken = tunables(JAXCNN_HUGE_PAGES="yes")
    assert (mistaken.code, mistaken.err) == (2, 'error: JAXCNN_HUGE_PAGES: expected on or off, got "yes"\n')


@pytest.mark.parametrize("own", [{}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"}])
def test_programs_beside_ours_get_the_environment_of_before(clean, own):
    for name in ("GLIBC_TUNABLES", start._SET_BY_US):
        clean.delenv(name, raising=False)
    for name, value in own.items():
        clean.setenv(name, value)
    before = dict(os.environ)
    assert start.without_our_huge_pages(os.environ) == before
    clean.setattr(start, "_huge_pages_available", lambda: True)
    clean.setattr(os, "execv", lambda *_: None)
    clean.setenv("JAXCNN_HUGE_PAGES", "on")
    start.use_huge_pages()
    assert start.HUGE_PAGES in os.environ["GLIBC_TUNABLES"]
    assert start.without_our_huge_pages(os.environ) == {**before, "JAXCNN_HUGE_PAGES": "on"}

"""What a command sets before JAX is imported: the compilation cache, GPU flags and huge pages."""

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

assert "jax" not in sys.modules, "jax was imported before its environment was set"
command.run(main)
"""


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """An environment without settings of JAX, with a separate cache folder for each test."""
    for name in list(os.environ):
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


def program(**environment):
    settings = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return child_processes.start("-c", PROGRAM, env=os.environ | settings | environment)


def outcome(process):
    """Returns (value, number of programs read from the cache). Nothing may be printed to stderr."""
    code, out, err = finish(process)
    assert (code, err) == (0, "")
    value, hits = out.split()
    return value, int(hits)


@pytest.mark.process
def test_second_start_uses_cached_programs_with_the_same_result(clean, tmp_path):
    value, hits = outcome(program())
    again, hits_again = outcome(program())
    assert value == again
    assert hits == 0
    assert hits_again > 0
    assert all(file.relative_to(tmp_path).parts[:3] == ("cache", "jaxcnn", "xla") for file in tmp_path.rglob("jit_*"))


@pytest.mark.slow
@pytest.mark.process
def test_damaged_entries_are_compiled_again_silently(clean, tmp_path):
    value, _ = outcome(program())
    entries = list(tmp_path.rglob("jit_*"))
    for entry in entries:  # as after an interrupted write
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
def test_folder_that_cannot_be_written_is_not_used(clean, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert outcome(program())[1] == 0
    start.prepare()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("given", ["", "/elsewhere"])
def test_variables_set_by_the_user_are_kept(clean, tmp_path, given):
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


def test_gpu_flags_are_set_with_a_gpu_and_flags_of_the_user_are_kept(clean):
    start.prepare()
    assert "xla_gpu" not in os.environ.get("XLA_FLAGS", ""), "this machine has a GPU, for which this test is not made"
    clean.setattr(start, "_has_nvidia_gpu", lambda: True)
    clean.setenv("XLA_FLAGS", "--xla_gpu_cudnn_gemm_fusion_level=0")
    start.prepare()
    assert os.environ["XLA_FLAGS"].split() == [
        "--xla_gpu_cudnn_gemm_fusion_level=0", "--xla_gpu_enable_latency_hiding_scheduler=true",
    ]  # fmt: skip


@pytest.mark.process
def test_gpu_flags_are_known_to_the_installed_jaxlib(clean):
    """XLA ends the process if it does not know a flag, on any device."""
    flags = " ".join(f"--{name}={value}" for name, value in start.GPU_FLAGS.items())
    outcome(program(XLA_FLAGS=flags))


TUNABLES = (
    "import os, sys; from jaxcnn import command; command.run(lambda *_: print(sys.argv, os.environ.get('GLIBC_TUNABLES')))"
)


def tunables(**environment):
    inherited = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", start._SET_BY_US)}
    return child_processes.run("-c", TUNABLES, "photo.png", env=inherited | environment)


@pytest.mark.process
def test_commands_restart_once_with_huge_pages_and_the_same_arguments():
    with_pages = start.HUGE_PAGES if start._huge_pages_available() else None
    assert tunables(JAXCNN_HUGE_PAGES="on").out == f"['-c', 'photo.png'] {with_pages}\n"
    assert tunables(JAXCNN_HUGE_PAGES="off").out == "['-c', 'photo.png'] None\n"
    own = "glibc.malloc.hugetlb=0"
    assert tunables(JAXCNN_HUGE_PAGES="on", GLIBC_TUNABLES=own).out == f"['-c', 'photo.png'] {own}\n"
    mistaken = tunables(JAXCNN_HUGE_PAGES="yes")
    assert (mistaken.code, mistaken.err) == (2, 'error: JAXCNN_HUGE_PAGES: expected on or off, got "yes"\n')


@pytest.mark.parametrize("own", [{}, {"GLIBC_TUNABLES": "glibc.malloc.perturb=1"}])
def test_other_programs_get_the_original_environment(clean, own):
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

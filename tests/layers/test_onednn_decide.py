"""Whether oneDNN is used: what it needs, who decides, and what is said where it can't be."""

import logging
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from common import child_processes
from common.child_processes import ROOT
from common.onednn_cases import CAN_BE, needs_onednn, normal, ours, xlas

from jaxcnn.errors import UserError
from jaxcnn.layers.onednn import build, decide, library, self_test

choose = decide.choice.__wrapped__  # anew, each time
FEWER_THREADS = [
    {"OMP_NUM_THREADS": "5", "OMP_THREAD_LIMIT": "2"},
    {"OMP_NUM_THREADS": "4", "OMP_DYNAMIC": "true"},
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_NUM_THREADS": "3", "OMP_MAX_ACTIVE_LEVELS": "0"},
]
PROGRAM = """
import jax, jax.numpy as jnp
from jaxcnn.layers import convolve, cpu_convolution
said = cpu_convolution()
y = jax.jit(lambda x, k: convolve(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))(
    jnp.ones((2, 6, 6, 8)), jnp.ones((3, 3, 8, 8)))
print(said, float(y.sum()))
"""


def start(*, cache, program=PROGRAM, **environment):
    """A program of its own, which prints what it uses and a sum."""
    clean = {name: value for name, value in os.environ.items() if name not in ("JAXCNN_CPU_CONV", "XLA_FLAGS")}
    settings = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    return child_processes.start("-W", "error", "-c", program, env=clean | settings | environment)


def said(process):
    """Which convolution it used, after a look at its sum."""
    code, out, err = child_processes.finish(process)
    assert code == 0, err
    convolution, _, total = out.strip().rpartition(" ")
    assert float(total) == 2 * 8 * 8 * 16 * 16, "6×6 ones: 4 windows of 4, 16 of 6, 16 of 9"
    return convolution


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache folder without a handler."""
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refused(monkeypatch):
    """The reason: given with XLA's convolution, and by a UserError if oneDNN was asked for."""
    chosen = choose()
    assert chosen.library is None
    monkeypatch.setenv("JAXCNN_CPU_CONV", "onednn")
    with pytest.raises(UserError) as error:
        choose()
    assert str(error.value) == f"JAXCNN_CPU_CONV=onednn: {chosen.reason}"
    assert "\n" not in chosen.reason
    assert str(chosen) == f"xla (not onednn: {chosen.reason})"
    return chosen.reason


@needs_onednn
def test_it_is_used_where_it_is():
    assert decide.choice().library
    assert str(decide.choice()).startswith("onednn 3.")


def test_variable_decides(monkeypatch):
    monkeypatch.setenv("JAXCNN_CPU_CONV", "xla")
    assert (choose().library, choose().reason, str(choose())) == (None, "", "xla")
    monkeypatch.setenv("JAXCNN_CPU_CONV", "mkl")
    with pytest.raises(UserError, match="JAXCNN_CPU_CONV=mkl: should be onednn, xla, or not set"):
        choose()


def test_not_installed_is_xla_without_a_word(monkeypatch):
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setattr(library, "PACKAGE", "onednn-cpu-nowhere")
    assert str(choose()) == "xla"
    if CAN_BE:
        monkeypatch.setenv("JAXCNN_CPU_CONV", "onednn")
        with pytest.raises(UserError, match=r"onednn-cpu-nowhere is not installed \(pip install 'jaxcnn\[cpu\]'\)"):
            choose()


def test_another_machine(monkeypatch):
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setattr(library, "installed", lambda: True)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "aarch64" in refused(monkeypatch)


@needs_onednn
def test_no_compiler(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    assert refused(monkeypatch) == "no C compiler (cc, gcc or clang) to build its handler with"


@needs_onednn
def test_compiler_that_fails(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    assert "xla/ffi/api/c_api.h" in refused(monkeypatch)
    assert not list(empty_cache.glob("**/*.so")), "what was half built is gone"


@needs_onednn
def test_no_libgomp(empty_cache, monkeypatch, tmp_path):
    """A library that needs one which is not there, as oneDNN's needs OpenMP's."""
    build_shared(tmp_path / "libgomp_of_old.so", "int gone;")
    build_shared(tmp_path / "libdnnl.so.3", "extern int gone; int *there = &gone;", tmp_path / "libgomp_of_old.so")
    (tmp_path / "libgomp_of_old.so").unlink()
    monkeypatch.setattr(library, "shared_library", lambda: tmp_path / "libdnnl.so.3")
    assert "libgomp_of_old.so: cannot open shared object file" in refused(monkeypatch)


@needs_onednn
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int nothing;", "has no dnnl_version"),
        ("int version[] = {4, 0, 0}; int *dnnl_version(void) { return version; }", "has no dnnl_get_effective_cpu_isa"),
    ],
)
def test_another_library(empty_cache, monkeypatch, tmp_path, source, reason):
    build_shared(tmp_path / "libdnnl.so.3", source)
    monkeypatch.setattr(library, "shared_library", lambda: tmp_path / "libdnnl.so.3")
    assert reason in refused(monkeypatch)


def build_shared(target, source, *needs):
    file = target.with_suffix(".c")
    file.write_text(source)
    paths = [str(path) for path in needs]
    subprocess.run(["cc", "-shared", "-fPIC", str(file), *paths, "-o", str(target)], check=True)


@needs_onednn
def test_jaxlib_of_another_interface(empty_cache, monkeypatch, tmp_path):
    """The handler says for which version of the interface it was compiled, and jaxlib refuses another."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    copy = tmp_path / "include" / "xla" / "ffi" / "api" / "c_api.h"
    copy.parent.mkdir(parents=True)
    copy.write_text(header.read_text().replace("#define XLA_FFI_API_MAJOR 0", "#define XLA_FFI_API_MAJOR 97"))
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path / "include"))
    reason = refused(monkeypatch)
    assert reason.startswith("jaxlib does not take its handler: ")
    assert "97" in reason


@needs_onednn
def test_wrong_numbers(monkeypatch):
    """A self-test that fails in one of the three."""
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    right = library.Library.run

    def wrong_by_a_hundredth(self, kind, shape, x, kernel, y):
        status = right(self, kind, shape, x, kernel, y)
        if kind == library.KERNEL_GRADIENT and shape.groups == 2:
            kernel *= 1.01
        return status

    monkeypatch.setattr(library.Library, "run", wrong_by_a_hundredth)
    reason = refused(monkeypatch)
    assert reason.startswith("its self-test fails: kernel gradient of Shape(")


@needs_onednn
def test_self_test_fails_where_nothing_is_computed(monkeypatch):
    loaded = decide.choice().library  # before, for the choice is kept
    monkeypatch.setattr(library.Library, "run", lambda *arguments: 0)
    with pytest.raises(build.Unavailable, match="self-test fails: forward"):
        self_test.check(loaded)


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
def test_cpu_without_avx2(tmp_path):
    assert said(start(cache=tmp_path, ONEDNN_MAX_CPU_ISA="SSE41")) == "xla (not onednn: this CPU has no AVX2)"


@pytest.mark.process
@needs_onednn
@pytest.mark.parametrize("instructions", [pytest.param("avx2", marks=pytest.mark.slow), "avx512_core"])
@pytest.mark.parametrize("environment", FEWER_THREADS, ids=str)
def test_openmp_that_gives_fewer_threads_than_it_promises(tmp_path, environment, instructions):
    """oneDNN waits for as many threads as omp_get_max_threads() promises: forever, where there are fewer."""
    used = said(start(cache=tmp_path, ONEDNN_MAX_CPU_ISA=instructions.upper(), **environment))
    assert used.startswith("onednn 3.")
    assert used.endswith(f"({instructions})") or decide.choice().library.instructions == "avx2"


@pytest.mark.process
@needs_onednn
def test_self_test_that_hangs_is_given_up(tmp_path):
    """The thread waits in C, as one does for a missing thread of OpenMP."""
    hangs = """
import ctypes
from jaxcnn.layers.onednn import decide, library
decide.SELF_TEST_SECONDS = 0.5
library.Library.run = lambda *arguments: ctypes.CDLL(None).pause()
"""
    used = said(start(cache=tmp_path, program=hangs + PROGRAM))
    assert used == "xla (not onednn: its self-test did not finish within 0.5 s)"


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
def test_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "a_file").touch()
    assert said(start(cache=tmp_path / "a_file")).startswith("onednn")


DAMAGES = {
    "truncated": lambda library: library[: len(library) // 2],
    "one bit": lambda library: (
        library[: len(library) // 2] + bytes([library[len(library) // 2] ^ 1]) + library[len(library) // 2 + 1 :]
    ),
    "empty": lambda library: b"",
    "another file": lambda library: b"#!/bin/sh\n" * 50,
    "as an earlier version left it": lambda library: library[:-32],
}


@needs_onednn
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_handler_in_the_cache_is_built_again(empty_cache, damage):
    """A truncated one would end the process by SIGBUS, and one wrong byte could change its numbers."""
    path = build.handler()
    intact = path.read_bytes()
    path.write_bytes(DAMAGES[damage](intact))
    assert build.handler() == path
    assert path.read_bytes() == intact
    changed = path.stat().st_mtime_ns
    build.handler()
    assert path.stat().st_mtime_ns == changed, "an intact one is left alone"


@needs_onednn
def test_handler_is_built_elsewhere_where_a_folder_has_its_place(empty_cache):
    path = build.handler()
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    elsewhere = build.handler()
    assert elsewhere != path
    assert elsewhere.is_file()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
def test_two_processes_build_at_once(tmp_path):
    processes = [start(cache=tmp_path) for _ in range(3)]
    for process in processes:
        assert said(process).startswith("onednn")
    (built,) = (tmp_path / "jaxcnn").iterdir()
    assert built.name.startswith("onednn-")


def test_reason_is_logged_once_unless_somebody_says_it(monkeypatch, caplog):
    monkeypatch.setattr(decide, "choice", lambda: decide.Choice(None, "no reason"))
    for told, lines in ((False, ["convolutions by XLA, not oneDNN: no reason"]), (True, [])):
        monkeypatch.setattr(decide, "_told", told)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jaxcnn"):
            x, kernel = normal(0, 2, 6, 6, 8), normal(1, 3, 3, 8, 8)
            for _ in range(2):
                np.testing.assert_array_equal(ours()(x, kernel), xlas()(x, kernel))
        assert [record.message for record in caplog.records] == lines

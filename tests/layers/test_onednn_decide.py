"""Whether oneDNN is used: requirements, the environment variable, and the reason that is reported if it cannot be used."""

import logging
import os
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from common import child_processes
from common.child_processes import ROOT
from common.onednn_cases import SUPPORTED, jax_convolution, needs_onednn, network_convolution, normal

from jaxcnn.errors import UserError
from jaxcnn.layers.onednn import build, decide, library, self_test

choose = decide.choice.__wrapped__  # without the cache
FEWER_THREADS = [
    {"OMP_NUM_THREADS": "5", "OMP_THREAD_LIMIT": "2"},
    {"OMP_NUM_THREADS": "4", "OMP_DYNAMIC": "true"},
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_NUM_THREADS": "3", "OMP_MAX_ACTIVE_LEVELS": "0"},
]
PROGRAM = """
import jax, jax.numpy as jnp
from jaxcnn.layers import convolve, cpu_convolution
used = cpu_convolution()
y = jax.jit(lambda x, k: convolve(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))(
    jnp.ones((2, 6, 6, 8)), jnp.ones((3, 3, 8, 8)))
print(used, float(y.sum()))
"""


def start(*, cache, program=PROGRAM, **environment):
    """Starts PROGRAM in a process, which prints what computes convolutions and a sum."""
    clean = {name: value for name, value in os.environ.items() if name not in ("JAXCNN_CPU_CONV", "XLA_FLAGS")}
    settings = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    return child_processes.start("-W", "error", "-c", program, env=clean | settings | environment)


def convolution_used(process):
    """Waits for the process, checks its sum and returns what computed the convolution."""
    code, out, err = child_processes.finish(process)
    assert code == 0, err
    convolution, _, total = out.strip().rpartition(" ")
    assert float(total) == 2 * 8 * 8 * 16 * 16, "6×6 ones: 4 windows of 4, 16 of 6, 16 of 9"
    return convolution


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Sets an empty cache folder."""
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def reason_for_xla(monkeypatch):
    """Returns the reason why oneDNN is not used, after checking that JAXCNN_CPU_CONV=onednn is a UserError with this reason."""
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
def test_onednn_is_used_where_it_is_supported():
    assert decide.choice().library
    assert str(decide.choice()).startswith("onednn 3.")


def test_variable_decides(monkeypatch):
    monkeypatch.setenv("JAXCNN_CPU_CONV", "xla")
    assert (choose().library, choose().reason, str(choose())) == (None, "", "xla")
    monkeypatch.setenv("JAXCNN_CPU_CONV", "mkl")
    with pytest.raises(UserError, match="JAXCNN_CPU_CONV=mkl: expected onednn or xla, or leave it unset"):
        choose()


def test_no_reason_is_given_if_onednn_is_not_installed(monkeypatch):
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setattr(library, "PACKAGE", "onednn-cpu-nowhere")
    assert str(choose()) == "xla"
    if SUPPORTED:
        monkeypatch.setenv("JAXCNN_CPU_CONV", "onednn")
        with pytest.raises(UserError, match=r"onednn-cpu-nowhere is not installed \(pip install 'jaxcnn\[cpu\]'\)"):
            choose()


def test_another_machine(monkeypatch):
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    monkeypatch.setattr(library, "installed", lambda: True)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert reason_for_xla(monkeypatch).startswith("it needs Linux on x86-64, but this is ")


@needs_onednn
def test_no_compiler(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", str(empty_cache))
    assert reason_for_xla(monkeypatch) == "building the handler needs a C compiler (cc, gcc or clang), but none was found"


@needs_onednn
def test_compiler_that_fails(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    assert "xla/ffi/api/c_api.h" in reason_for_xla(monkeypatch)
    assert not list(empty_cache.glob("**/*.so")), "no incomplete file remains"


@needs_onednn
def test_no_libgomp(empty_cache, monkeypatch, tmp_path):
    """oneDNN's library depends on OpenMP's; here a library depends on one that does not exist."""
    build_shared(tmp_path / "libgomp_of_old.so", "int gone;")
    build_shared(tmp_path / "libdnnl.so.3", "extern int gone; int *there = &gone;", tmp_path / "libgomp_of_old.so")
    (tmp_path / "libgomp_of_old.so").unlink()
    monkeypatch.setattr(library, "shared_library", lambda: tmp_path / "libdnnl.so.3")
    assert "libgomp_of_old.so: cannot open shared object file" in reason_for_xla(monkeypatch)


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
    assert reason in reason_for_xla(monkeypatch)


def build_shared(target, source, *needs):
    file = target.with_suffix(".c")
    file.write_text(source)
    paths = [str(path) for path in needs]
    subprocess.run(["cc", "-shared", "-fPIC", str(file), *paths, "-o", str(target)], check=True)


@needs_onednn
def test_jaxlib_of_another_interface(empty_cache, monkeypatch, tmp_path):
    """The handler reports the version of the interface that it was compiled for, and jaxlib rejects another version."""
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    copy = tmp_path / "include" / "xla" / "ffi" / "api" / "c_api.h"
    copy.parent.mkdir(parents=True)
    copy.write_text(header.read_text().replace("#define XLA_FFI_API_MAJOR 0", "#define XLA_FFI_API_MAJOR 97"))
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path / "include"))
    reason = reason_for_xla(monkeypatch)
    assert reason.startswith("jaxlib rejects the handler: ")
    assert "97" in reason


@needs_onednn
def test_wrong_numbers(monkeypatch):
    """The self-test notices that one of the three operations is wrong for one shape."""
    monkeypatch.delenv("JAXCNN_CPU_CONV", raising=False)
    right = library.Library.run

    def wrong_by_a_hundredth(self, kind, shape, x, kernel, y):
        status = right(self, kind, shape, x, kernel, y)
        if kind == library.KERNEL_GRADIENT and shape.groups == 2:
            kernel *= 1.01
        return status

    monkeypatch.setattr(library.Library, "run", wrong_by_a_hundredth)
    reason = reason_for_xla(monkeypatch)
    assert reason.startswith("the self-test failed: kernel gradient of Shape(")


@needs_onednn
def test_self_test_fails_where_nothing_is_computed(monkeypatch):
    loaded = decide.choice().library  # first, because the choice is cached
    monkeypatch.setattr(library.Library, "run", lambda *arguments: 0)
    with pytest.raises(build.Unavailable, match="self-test failed: forward"):
        self_test.check(loaded)


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
def test_cpu_without_avx2(tmp_path):
    assert convolution_used(start(cache=tmp_path, ONEDNN_MAX_CPU_ISA="SSE41")) == "xla (not onednn: this CPU has no AVX2)"


@pytest.mark.process
@needs_onednn
@pytest.mark.parametrize("instructions", [pytest.param("avx2", marks=pytest.mark.slow), "avx512_core"])
@pytest.mark.parametrize("environment", FEWER_THREADS, ids=str)
def test_openmp_that_provides_fewer_threads_than_it_reports(tmp_path, environment, instructions):
    """oneDNN waits for as many threads as omp_get_max_threads() returns: forever, if there are fewer."""
    used = convolution_used(start(cache=tmp_path, ONEDNN_MAX_CPU_ISA=instructions.upper(), **environment))
    assert used.startswith("onednn 3.")
    assert used.endswith(f"({instructions})") or decide.choice().library.instructions == "avx2"


@pytest.mark.process
@needs_onednn
def test_self_test_that_hangs_is_abandoned(tmp_path):
    """The thread waits in C, as it does if a thread of OpenMP is missing."""
    hangs = """
import ctypes
from jaxcnn.layers.onednn import decide, library
decide.SELF_TEST_SECONDS = 0.5
library.Library.run = lambda *arguments: ctypes.CDLL(None).pause()
"""
    used = convolution_used(start(cache=tmp_path, program=hangs + PROGRAM))
    assert used == "xla (not onednn: the self-test did not finish within 0.5 s)"


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
def test_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "a_file").touch()
    assert convolution_used(start(cache=tmp_path / "a_file")).startswith("onednn")


DAMAGES = {
    "truncated": lambda library: library[: len(library) // 2],
    "one bit": lambda library: (
        library[: len(library) // 2] + bytes([library[len(library) // 2] ^ 1]) + library[len(library) // 2 + 1 :]
    ),
    "empty": lambda library: b"",
    "another file": lambda library: b"#!/bin/sh\n" * 50,
    "without a checksum": lambda library: library[:-32],
}


@needs_onednn
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_handler_in_the_cache_is_replaced(empty_cache, damage):
    """A truncated file would end the process with SIGBUS, and one wrong byte could change results."""
    path = build.handler()
    intact = path.read_bytes()
    path.write_bytes(DAMAGES[damage](intact))
    assert build.handler() == path
    assert path.read_bytes() == intact
    changed = path.stat().st_mtime_ns
    build.handler()
    assert path.stat().st_mtime_ns == changed, "an intact file is not replaced"


@needs_onednn
def test_handler_is_built_elsewhere_if_a_folder_has_its_name(empty_cache):
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
        assert convolution_used(process).startswith("onednn")
    (built,) = (tmp_path / "jaxcnn").iterdir()
    assert built.name.startswith("onednn-")


def test_reason_is_logged_once_unless_it_was_shown(monkeypatch, caplog):
    monkeypatch.setattr(decide, "choice", lambda: decide.Choice(None, "no reason"))
    warning = "XLA computes the convolutions, because oneDNN cannot be used: no reason"
    for shown, lines in ((False, [warning]), (True, [])):
        monkeypatch.setattr(decide, "_reason_shown", shown)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jaxcnn"):
            x, kernel = normal(0, 2, 6, 6, 8), normal(1, 3, 3, 8, 8)
            for _ in range(2):
                np.testing.assert_array_equal(network_convolution()(x, kernel), jax_convolution()(x, kernel))
        assert [record.message for record in caplog.records] == lines

"""Runs the tests that depend on the CPU's instruction set again with AVX2, if the CPU has AVX-512."""

import os

import pytest
from common.child_processes import ROOT, run
from common.onednn_cases import library, needs_onednn

FILES = (
    "tests/layers/test_onednn_handler.py",
    "tests/layers/test_onednn_primitives.py",
    "tests/train/test_either_convolution.py",
)


@pytest.mark.slow
@pytest.mark.process
@needs_onednn
@pytest.mark.parametrize("file", FILES)
def test_passes_with_avx2_too(file):
    if library().instructions == "avx2":
        pytest.skip("this CPU has only AVX2, so the test file itself covers it")
    pytest_command = ("-m", "pytest", "-p", "no:cacheprovider", "-m", "instruction_set", "-o", "addopts=--strict-markers", file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "XLA_FLAGS"))}
    code, out, err = run(*pytest_command, cwd=ROOT, env=environment | {"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert code == 0, out + err
    assert " passed" in out

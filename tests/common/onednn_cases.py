"""Helpers for tests of jaxcnn.layers.onednn."""

import platform
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.layers import convolve
from jaxcnn.layers.onednn import decide
from jaxcnn.layers.onednn.decide import choice

NHWC = ("NHWC", "HWIO", "NHWC")
SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64" and "avx2" in Path("/proc/cpuinfo").read_text()
needs_onednn = pytest.mark.skipif(not SUPPORTED, reason="oneDNN needs Linux on x86-64 with AVX2")
CHEAP = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def library():
    """Returns the loaded library; fails if oneDNN is not used although this machine supports it."""
    chosen = choice()  # not decide.choice, which use_xla replaces
    assert chosen.library, f"oneDNN should be used, but: {chosen}"
    return chosen.library


def use_xla(monkeypatch):
    """Lets JAX and XLA compute what is traced from now on, as if oneDNN were not installed."""
    monkeypatch.setattr(decide, "choice", lambda: decide.Choice(None))


def call_and_count(function, *arguments):
    """Compiles and calls a function; returns its result, and (calls, images) of each of oneDNN's three operations."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=CHEAP)
    before = library().counters()
    result = jax.block_until_ready(compiled(*arguments))
    after = library().counters()
    return result, [
        (calls - old_calls, images - old_images)
        for calls, old_calls, images, old_images in zip(after.calls, before.calls, after.images, before.images, strict=True)
    ]


def network_convolution(strides=(1, 1), padding="SAME", **options):
    """Returns the convolution that networks use, (x, kernel) -> results."""
    return partial(convolve, window_strides=strides, padding=padding, dimension_numbers=NHWC, **options)


def jax_convolution(strides=(1, 1), padding="SAME", **options):
    """Returns JAX's own convolution, (x, kernel) -> results."""

    def convolution(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC, **options)

    return convolution


def normal(seed, *shape, dtype=jnp.float32):
    """Returns normally distributed numbers with mean 0 and standard deviation 1."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_close(found, expected, tolerance=2e-6):
    """Compares the leaves of two trees, with an absolute tolerance of `tolerance` times the largest value of each array."""
    for actual, desired in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert actual.shape == desired.shape
        assert actual.dtype == desired.dtype
        actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
        np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * np.abs(desired).max())


def assert_refused(calls):
    """Checks that each call in {message: call} raises an exception of the handler with this message."""
    for message, call in calls.items():
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"jaxcnn: oneDNN handler: .*{message}"):
            jax.block_until_ready(call())

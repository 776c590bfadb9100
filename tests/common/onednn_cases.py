"""Helpers of the tests of oneDNN's convolutions."""

import platform
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.layers import convolve
from jaxcnn.layers.onednn import choice

NHWC = ("NHWC", "HWIO", "NHWC")
CAN_BE = sys.platform == "linux" and platform.machine() == "x86_64" and "avx2" in Path("/proc/cpuinfo").read_text()
needs_onednn = pytest.mark.skipif(not CAN_BE, reason="oneDNN is for Linux on x86-64 with AVX2")
CHEAP = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def library():
    """Returns the loaded library. Fails if it is not available."""
    chosen = choice()
    assert chosen.library, f"oneDNN should be here: {chosen}"
    return chosen.library


def done_by(function, *arguments):
    """Calls the compiled function. Returns its result, and (calls, images) for each of the library's three operations."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=CHEAP)
    before = library().counters()
    result = jax.block_until_ready(compiled(*arguments))
    after = library().counters()
    return result, [
        (calls - old_calls, images - old_images)
        for calls, old_calls, images, old_images in zip(after.calls, before.calls, after.images, before.images, strict=True)
    ]


def ours(strides=(1, 1), padding="SAME", **options):
    """Returns the convolution (x, kernel) -> result that the networks use."""
    return partial(convolve, window_strides=strides, padding=padding, dimension_numbers=NHWC, **options)


def xlas(strides=(1, 1), padding="SAME", **options):
    """Returns JAX's convolution (x, kernel) -> result."""

    def convolution(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC, **options)

    return convolution


def normal(seed, *shape, dtype=jnp.float32):
    """Returns random numbers with a standard normal distribution."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_close(found, expected, tolerance=2e-6):
    """Asserts that arrays are equal within `tolerance` times the largest value of each array."""
    for leaf, reference in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.shape == reference.shape
        assert leaf.dtype == reference.dtype
        leaf, reference = np.asarray(leaf, np.float64), np.asarray(reference, np.float64)
        np.testing.assert_allclose(leaf, reference, rtol=0, atol=tolerance * np.abs(reference).max())


def assert_refused(calls):
    """Asserts that each call of {message: call} raises the handler's error with this message."""
    for message, call in calls.items():
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"jaxcnn: on oneDNN's threads: .*{message}"):
            jax.block_until_ready(call())

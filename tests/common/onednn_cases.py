"""What the tests of oneDNN's convolutions share."""

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
CAN_BE = sys.platform == "linux" and platform.machine() == "x86_64" and "avx2" in Path("/proc/cpuinfo").read_text()
needs_onednn = pytest.mark.skipif(not CAN_BE, reason="oneDNN is for Linux on x86-64 with AVX2")
CHEAP = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def library():
    """The loaded library; fails where it ought to be there and is not."""
    chosen = choice()  # not decide.choice, which use_xla replaces
    assert chosen.library, f"oneDNN should be here: {chosen}"
    return chosen.library


def use_xla(monkeypatch):
    """Lets JAX and XLA compute what is traced from now on, as if oneDNN were not installed."""
    monkeypatch.setattr(decide, "choice", lambda: decide.Choice(None))


def done_by(function, *arguments):
    """(the result, (calls, images) of each of the three kinds) of one call of the compiled function."""
    compiled = jax.jit(function).lower(*arguments).compile(compiler_options=CHEAP)
    before = library().counters()
    result = jax.block_until_ready(compiled(*arguments))
    after = library().counters()
    return result, [
        (calls - old_calls, images - old_images)
        for calls, old_calls, images, old_images in zip(after.calls, before.calls, after.images, before.images, strict=True)
    ]


def ours(strides=(1, 1), padding="SAME", **options):
    """(x, kernel) -> results, as the networks compute them."""
    return partial(convolve, window_strides=strides, padding=padding, dimension_numbers=NHWC, **options)


def xlas(strides=(1, 1), padding="SAME", **options):
    """(lhs, rhs) -> results by JAX alone."""

    def convolution(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC, **options)

    return convolution


def normal(seed, *shape, dtype=jnp.float32):
    """Numbers of standard deviation 1."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_close(found, expected, tolerance=2e-6):
    """To `tolerance` times the largest value of each array."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def assert_refused(calls):
    """Each of {message: call} of the handler is an exception that says so."""
    for message, call in calls.items():
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"jaxcnn: on oneDNN's threads: .*{message}"):
            jax.block_until_ready(call())

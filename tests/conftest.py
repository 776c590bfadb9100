"""Every test runs on 8 virtual CPU devices, with strict dtype promotion, rank promotion an error, warnings as errors."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # nothing is left in, or comes out of, the cache of whoever runs the tests
os.environ["JAXCNN_HUGE_PAGES"] = "off"  # commands that tests run would start twice

import jax
import pytest
from common import child_processes

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def no_program_outlives_its_test():
    """A test's programs end with it; one that a module's fixture started ends with the first test."""
    yield
    child_processes.kill_all()

"""All tests run on 8 virtual CPU devices, with strict dtype promotion, and with rank promotion and warnings as errors."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_COMPILATION_CACHE_DIR"] = ""  # neither reads nor writes the user's compilation cache
os.environ["JAXCNN_HUGE_PAGES"] = "off"  # otherwise commands that tests run would start a second process

import jax
import pytest
from common import child_processes

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def no_program_outlives_its_test():
    """Kills all programs at the end of a test; one that a module's fixture started is killed after its first test."""
    yield
    child_processes.kill_all()

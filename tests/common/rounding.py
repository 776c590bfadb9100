"""Measures the effect of float32 rounding on results, by changing the last bit of the parameters in the same program."""

import jax
import numpy as np

LAST_BIT = np.float32(2**-23)


def nudged(variables, seed):
    """Returns the variables with every number randomly raised or lowered by its last bit, or unchanged."""
    random, factors = np.random.default_rng(seed), np.float32([1 - LAST_BIT, 1, 1 + LAST_BIT])
    return jax.tree.map(lambda leaf: np.asarray(leaf) * random.choice(factors, leaf.shape), variables)

"""How far float32's rounding may take results: as far as last digits of the parameters do, in the same program."""

import jax
import numpy as np

LAST_DIGIT = np.float32(2**-23)


def nudged(variables, seed):
    """Each number raised or lowered by its last digit, or left as it is."""
    random, factors = np.random.default_rng(seed), np.float32([1 - LAST_DIGIT, 1, 1 + LAST_DIGIT])
    return jax.tree.map(lambda leaf: np.asarray(leaf) * random.choice(factors, leaf.shape), variables)

"""The state of a training: everything that a resumed run needs beside its config."""

import hashlib
from typing import Any

import flax.struct
import jax
import numpy as np

from jaxcnn.tasks.task import Variables


class TrainState(flax.struct.PyTreeNode):
    """A pytree. `opt_state` has the optimizer's state of each phase by its name; of a single phase, that state itself.

    `ema` is the moving average of "params" and "batch_stats", or None. The seed is in the state, and not in the step's code, so
    that runs of other seeds need not be compiled again.
    """

    step: jax.Array
    seed: jax.Array  # uint32
    variables: Variables
    opt_state: Any
    ema: Variables | None

    @property
    def averaged(self) -> Variables:
        """The variables with the moving average in place of what is averaged."""
        return self.variables | (self.ema or {})


def averaged_part(variables: Variables) -> Variables:
    """The collections that the moving average is of."""
    return {name: variables[name] for name in ("params", "batch_stats")}


def count_parameters(params: Any) -> int:
    """How many numbers are trained; batch statistics are not."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def variables_sha256(variables: Variables) -> str:
    """A hash of all variables: path and float32 bytes of each, in path order."""
    sha = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(variables)
    }
    for path in sorted(leaves):
        sha.update(path.encode())
        sha.update(np.asarray(leaves[path], "<f4").tobytes())
    return sha.hexdigest()

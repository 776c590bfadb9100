"""The training state: everything that a resumed run needs in addition to its config."""

import hashlib
from typing import Any

import flax.struct
import jax
import numpy as np

from jaxcnn.tasks.task import Variables


class TrainState(flax.struct.PyTreeNode):
    """The training state, a pytree.

    `opt_state` is the optimizer state of the task's only phase, or a dict with the optimizer state of each phase by name.
    `ema` is the moving average of "params" and "batch_stats", or None. The seed is part of the state, not a constant of the
    compiled step, so that runs with other seeds use the same program.
    """

    step: jax.Array
    seed: jax.Array  # uint32
    variables: Variables
    opt_state: Any
    ema: Variables | None

    @property
    def averaged(self) -> Variables:
        """The variables, with averaged collections replaced by their moving average."""
        return self.variables | (self.ema or {})


def averaged_part(variables: Variables) -> Variables:
    """Returns the collections of which a moving average is kept."""
    return {name: variables[name] for name in ("params", "batch_stats")}


def count_parameters(params: Any) -> int:
    """Returns the total number of elements of all parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def variables_sha256(variables: Variables) -> str:
    """Returns the SHA-256 of all variables: the path and float32 bytes of each, in path order."""
    sha = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(variables)
    }
    for path in sorted(leaves):
        sha.update(path.encode())
        sha.update(np.asarray(leaves[path], "<f4").tobytes())
    return sha.hexdigest()

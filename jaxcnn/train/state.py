"""The state of a training: everything that a resumed run needs beside its config."""

import hashlib
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

Variables = dict[str, Any]
"""{"params": …, "batch_stats": …}: nested dicts of float32 arrays."""


@flax.struct.dataclass
class TrainState:
    """A pytree. `ema` is the moving average of both `params` and `batch_stats`, or None.

    The seed is in it, and not in the step's code, so that runs of other seeds need not be compiled again.
    """

    step: jax.Array
    seed: jax.Array  # uint32
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Variables | None

    @property
    def variables(self) -> Variables:
        """What model.apply takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(model: nn.Module, input_shape: tuple[int, int, int], key: jax.Array) -> Variables:
    """Initial variables for inputs (1, height, width, C)."""
    variables = model.init(key, jnp.zeros((1, *input_shape), jnp.float32), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def init_state(
    variables: Variables, seed: int | jax.Array, optimizer: optax.GradientTransformation, *, ema: bool
) -> TrainState:
    """Step 0 of a training that starts from `variables`."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        # a copy: the state is donated, and one buffer can't be given away twice
        ema=jax.tree.map(jnp.copy, variables) if ema else None,
    )


def count_parameters(params: Any) -> int:
    """How many numbers are trained; batch statistics are not."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def variables_sha256(variables: Variables) -> str:
    """A hash of all parameters and batch statistics: path and float32 bytes of each, in path order."""
    sha = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(variables)
    }
    for path in sorted(leaves):
        sha.update(path.encode())
        sha.update(np.asarray(leaves[path], "<f4").tobytes())
    return sha.hexdigest()

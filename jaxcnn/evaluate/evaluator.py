"""Tallies of exactly N examples, whatever the batch size and the number of devices; and the figures that they give."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data import Batch
from jaxcnn.errors import RunFailed
from jaxcnn.tasks.task import Tally, Task, Variables


def make_tally(task: Task, mesh: Mesh) -> jax.stages.Wrapped:
    """The jitted (variables, batch) -> tally of the B examples of a batch (K = 1), replicated over the mesh."""
    return _jitted(task.tally, mesh)


def make_predict(task: Task, mesh: Mesh) -> jax.stages.Wrapped:
    """The jitted (variables, batch) -> outputs of the B images of a batch (K = 1), replicated over the mesh."""
    return _jitted(task.predict, mesh)


def _jitted(function: Callable[[Variables, Batch], Any], mesh: Mesh) -> jax.stages.Wrapped:
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def of_batch(variables: Variables, batch: Batch) -> Any:
        return function(variables, jax.tree.map(lambda x: x[0], batch))

    return of_batch


def collect(tally: Callable[[Variables, Batch], Tally], networks: Sequence[Variables], batches: Iterable[Batch]) -> list[Tally]:
    """For each network's variables the tally of the N examples in `batches`, which are read once. NumPy arrays (N, …).

    Padding (mask False) is left out.

    Raises:
      RunFailed: there are no examples, so there is nothing to average over.
    """
    parts: list[list[Tally]] = [[] for _ in networks]
    for batch in batches:
        tallies, mask = jax.device_get(([tally(variables, batch) for variables in networks], batch["mask"]))
        for of_network, of_batch in zip(parts, tallies, strict=True):
            of_network.append(jax.tree.map(lambda x: x[mask[0]], of_batch))  # noqa: B023
    if not any(len(jax.tree.leaves(of_batch)[0]) for of_batch in parts[0]):
        raise RunFailed("evaluation: there are no examples to evaluate")
    return [jax.tree.map(lambda *arrays: np.concatenate(arrays), *of_network) for of_network in parts]


def measure(
    task: Task,
    tally: Callable[[Variables, Batch], Tally],
    networks: Sequence[Variables],
    parts: Sequence[Callable[[], Iterable[Batch]]],
) -> list[tuple[Tally, dict[str, float]]]:
    """For each network's variables the tally of the first part of the data, and the task's figures.

    `parts` give their batches when they are called: the part to measure, then those in task.needs.
    """
    measured, *beside = [collect(tally, networks, batches()) for batches in parts]
    return [
        (of_network, task.figures(of_network, dict(zip(task.needs, others, strict=True))))
        for of_network, *others in zip(measured, *beside, strict=True)
    ]


def finite(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """The same for JSON, which has no NaN and no infinity: None in their place."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}

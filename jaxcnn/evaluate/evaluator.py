"""Evaluation of exactly N examples, independently of the batch size and the number of devices."""

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
    """Returns the jitted function (variables, batch) -> tally of B examples, replicated over the mesh.

    The batch has the leading axes (K, B) of jaxcnn.data.Batch with K = 1.
    """
    return _jitted(task.tally, mesh)


def make_predict(task: Task, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the jitted function (variables, batch) -> outputs for B images, replicated over the mesh.

    The batch has the leading axes (K, B) of jaxcnn.data.Batch with K = 1.
    """
    return _jitted(task.predict, mesh)


def _jitted(function: Callable[[Variables, Batch], Any], mesh: Mesh) -> jax.stages.Wrapped:
    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def of_batch(variables: Variables, batch: Batch) -> Any:
        return function(variables, jax.tree.map(lambda x: x[0], batch))

    return of_batch


def collect(tally: Callable[[Variables, Batch], Tally], networks: Sequence[Variables], batches: Iterable[Batch]) -> list[Tally]:
    """Returns, for each network's variables, the tally of all examples: NumPy arrays with leading axis N.

    The batches are read only once. Padding (rows with mask False) is dropped.

    Raises:
      RunFailed: there are no examples to evaluate.
    """
    collected: list[list[Tally]] = [[] for _ in networks]
    for batch in batches:
        tallies, mask = jax.device_get(([tally(variables, batch) for variables in networks], batch["mask"]))
        for of_network, of_batch in zip(collected, tallies, strict=True):
            of_network.append(jax.tree.map(lambda x: x[mask[0]], of_batch))  # noqa: B023
    if not any(len(jax.tree.leaves(of_batch)[0]) for of_batch in collected[0]):
        raise RunFailed("evaluation: there are no examples to evaluate")
    return [jax.tree.map(lambda *arrays: np.concatenate(arrays), *of_network) for of_network in collected]


def measure(
    task: Task,
    tally: Callable[[Variables, Batch], Tally],
    networks: Sequence[Variables],
    splits: Sequence[Callable[[], Iterable[Batch]]],
) -> list[tuple[Tally, dict[str, float]]]:
    """Returns, for each network's variables, the tally and the metrics of a split.

    `splits` are functions that return the batches of a split: first of the one to evaluate, then of those in task.needs.
    """
    evaluated, *needed = [collect(tally, networks, batches()) for batches in splits]
    return [
        (of_network, task.figures(of_network, dict(zip(task.needs, others, strict=True))))
        for of_network, *others in zip(evaluated, *needed, strict=True)
    ]


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Returns the metrics for JSON, with None in place of NaN and infinity, which JSON does not support."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()}

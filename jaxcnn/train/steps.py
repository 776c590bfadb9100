"""Execution of the training steps of a run: their division into calls of the device, their batches and compiled programs."""

import functools
import itertools
import math
import time
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcnn.data import Batch, Sizes
from jaxcnn.tasks.task import Metrics
from jaxcnn.train.clock import Clock
from jaxcnn.train.devices import on_cpu, replicated, sharded
from jaxcnn.train.experiment import Experiment
from jaxcnn.train.programs import AheadOfTime
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import Step, scan

_STEPS_PER_CALL = 32  # on accelerators, where the overhead of a call exceeds the time of a small step
_BYTES_PER_CALL = 256 * 2**20  # maximum size of the batches of one call


class Call(NamedTuple):
    """The result of one call of the device. Its arrays may not be computed yet."""

    state: TrainState
    step: int
    """number of the last step of the call"""
    metrics: Metrics
    """arrays of which only the first `steps` values are valid"""
    steps: int
    """number of steps in the call"""
    waited: float
    """seconds for which the host waited for the batches"""


class Steps:
    """The calls of the device from step `start` to the last step. Iterate over `steps(state)` to execute them.

    There is one program for each image size (see data.sizes). It executes one step, or a loop over the steps of a call,
    whose arrays have the size of the longest call of the run.
    """

    def __init__(self, experiment: Experiment, start: int, clock: Clock):
        config, size, total, sizes = experiment.config, experiment.config.batch_size, experiment.total_steps, experiment.sizes
        intervals = experiment.every.values()
        limit = min(
            config.steps_per_dispatch or (1 if on_cpu(experiment.mesh) else _STEPS_PER_CALL), _most_that_fit(experiment)
        )
        # Computed for the entire run, so that a resumed run, wherever it starts, uses the same program.
        most = max(plan(0, total, limit, intervals, sizes))
        self.counts = list(plan(start, total, most, intervals, sizes))
        read = experiment.reader(experiment.dataset.train)
        self.batches: Iterator[Batch] = read(experiment.order(), start * size, size, self.counts, most)
        self._experiment, self._start, self._clock, self._loops = experiment, start, clock, most > 1
        counts = {count: jax.device_put(np.int32(count), replicated(experiment.mesh)) for count in {*self.counts, most}}
        self._count_on_device = counts
        self._programs: dict[tuple[int, int] | None, AheadOfTime] = {}

    def compile_ahead(self, template: TrainState) -> None:
        """Reads the first batch, and starts to compile the first program in the background while the state is created."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        self._program(self._experiment.sizes.at_step(self._start)).begin(*self._arguments(template, self.counts[0], first))

    def __call__(self, state: TrainState) -> Iterator[Call]:
        """Executes and yields the calls in order. The state of each call is donated to the next."""
        step, sizes, mesh = self._start, self._experiment.sizes, self._experiment.mesh
        virtual_devices = on_cpu(mesh) and mesh.size > 1
        for count in self.counts:
            started = time.perf_counter()
            with jax.transfer_guard("disallow"):  # the reader transfers the batches, and no results are read here
                batch = next(self.batches)
                waited = time.perf_counter() - started
                program = self._program(sizes.at_step(step) if sizes.sizes else None)
                state, metrics = program(*self._arguments(state, count, batch))
            if virtual_devices:
                jax.block_until_ready(metrics)  # otherwise their collectives can deadlock
            step += count
            yield Call(state, step, metrics, count, waited)

    def _arguments(self, state: TrainState, count: int, batch: Batch) -> tuple[Any, ...]:
        return (state, self._count_on_device[count], batch) if self._loops else (state, batch)

    def _program(self, size: tuple[int, int] | None) -> AheadOfTime:
        if size not in self._programs:
            make = jit_loop if self._loops else jit_steps
            self._programs[size] = AheadOfTime(make(self._experiment.train_step(size), self._experiment.mesh), self._clock)
        return self._programs[size]


def plan(step: int, total: int, most: int, intervals: Collection[int], sizes: Sizes) -> Iterator[int]:
    """Yields the number of steps of each call: at most `most`, ending at every interval and change of the image size.

    The steps between two such ends are divided evenly over the calls, to keep the padding of the arrays small.
    """
    while step < total:
        steps = min([sizes.until(step, total), *((step // n + 1) * n for n in intervals)]) - step
        count = math.ceil(steps / math.ceil(steps / most))
        yield count
        step += count


def jit_steps(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the program of K unrolled steps, (state, K batches) -> (state, metrics (K,)), which donates the state.

    Batches are sharded over the mesh's axis "data" and the state is replicated, so batch norm uses the global batch.
    """
    shardings = {"in_shardings": (replicated(mesh), sharded(mesh)), "out_shardings": (replicated(mesh), replicated(mesh))}

    @functools.partial(jax.jit, donate_argnums=0, **shardings)
    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return scan(step, state, batches, unroll=True)

    return steps


def jit_loop(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the program of a loop of up to K steps, (state, count, K batches) -> (state, metrics (K,)).

    It executes steps on the first `count` (int32 scalar) batches, and the remaining metrics are 0. One program serves all
    counts. On CPU it is slow, see `scan`.
    """
    everywhere, step = replicated(mesh), jax.jit(step, inline=True)  # traced only once for eval_shape and the loop

    @functools.partial(
        jax.jit, donate_argnums=0, in_shardings=(everywhere, everywhere, sharded(mesh)), out_shardings=(everywhere, everywhere)
    )
    def steps(state: TrainState, count: jax.Array, batches: Batch) -> tuple[TrainState, Metrics]:
        def batch_at(index: int | jax.Array) -> Batch:
            return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), batches)

        def body(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, step_metrics = step(state, batch_at(index))
            return state, jax.tree.map(lambda values, value: values.at[index].set(value), metrics, step_metrics)

        most = jax.tree.leaves(batches)[0].shape[0]
        metrics = jax.eval_shape(lambda state: step(state, batch_at(0))[1], state)
        zeros = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), metrics)
        return jax.lax.fori_loop(0, count, body, (state, zeros))

    return steps


def _most_that_fit(experiment: Experiment) -> int:
    """Returns the number of batches that fit into _BYTES_PER_CALL, but at least 1."""
    train = experiment.dataset.train
    assert train.image_shape is not None
    *stored, channels = train.image_shape
    pixels = max(height * width for height, width in [stored, *experiment.sizes.sizes]) * channels
    targets = train.rows(np.arange(1))
    map_pixels = pixels // channels if train.has_maps and "map" not in targets else 0
    example = pixels + map_pixels + sum(column.nbytes for column in targets.values())
    return max(1, _BYTES_PER_CALL // (experiment.config.batch_size * example))

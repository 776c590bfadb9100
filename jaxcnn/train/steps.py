"""The training steps of a run: how many per call of the device, on which batches, by which compiled program."""

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

_STEPS_PER_CALL = 32  # on accelerators, where a call of the device costs more than a small step
_BYTES_PER_CALL = 256 * 2**20  # of the batches of one call


class Call(NamedTuple):
    """What one call of the device did. Its arrays may still be under way."""

    state: TrainState
    step: int
    """the number of the last one"""
    metrics: Metrics
    """arrays, of which the first `steps` values count"""
    steps: int
    """how many it made"""
    waited: float
    """seconds that the host waited for the batch"""


class Steps:
    """The calls from step `start` to the last; iterate over `steps(state)`.

    There is one program for each size of images (see data.sizes): of one step, or of a loop over as many steps as a call
    makes, on arrays that have room for the most that any call of the run makes.
    """

    def __init__(self, experiment: Experiment, start: int, clock: Clock):
        config, size, total, sizes = experiment.config, experiment.config.batch_size, experiment.total_steps, experiment.sizes
        intervals = experiment.every.values()
        limit = min(
            config.steps_per_dispatch or (1 if on_cpu(experiment.mesh) else _STEPS_PER_CALL), _most_that_fit(experiment)
        )
        # of the whole run: a resumed one, which may start between two ends, has the same program and no longer calls
        most = max(plan(0, total, limit, intervals, sizes))
        self.counts = list(plan(start, total, most, intervals, sizes))
        read = experiment.reader(experiment.dataset.train)
        self.batches: Iterator[Batch] = read(experiment.order(), start * size, size, self.counts, most)
        self._experiment, self._start, self._clock, self._loops = experiment, start, clock, most > 1
        counts = {count: jax.device_put(np.int32(count), replicated(experiment.mesh)) for count in {*self.counts, most}}
        self._count_on_device = counts
        self._programs: dict[tuple[int, int] | None, AheadOfTime] = {}

    def compile_ahead(self, template: TrainState) -> None:
        """Reads the first batch, and has the first program compiled while the state itself is made."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        self._program(self._experiment.sizes.at_step(self._start)).begin(*self._arguments(template, self.counts[0], first))

    def __call__(self, state: TrainState) -> Iterator[Call]:
        """Every call, in order. The state of the one before is donated to the next."""
        step, sizes, mesh = self._start, self._experiment.sizes, self._experiment.mesh
        virtual_devices = on_cpu(mesh) and mesh.size > 1
        for count in self.counts:
            started = time.perf_counter()
            with jax.transfer_guard("disallow"):  # what goes to the device is put there by the reader, and nothing comes back
                batch = next(self.batches)
                waited = time.perf_counter() - started
                program = self._program(sizes.at_step(step) if sizes.sizes else None)
                state, metrics = program(*self._arguments(state, count, batch))
            if virtual_devices:
                jax.block_until_ready(metrics)  # they deadlock where their collectives are not waited for
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
    """How many steps each call makes: at most `most`, and none past an interval's end or another size.

    What lies between two ends is shared out evenly, so that arrays for the longest call have little room to spare.
    """
    while step < total:
        steps = min([sizes.until(step, total), *((step // n + 1) * n for n in intervals)]) - step
        count = math.ceil(steps / math.ceil(steps / most))
        yield count
        step += count


def jit_steps(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """K steps in one call, one after the other: (state, K batches) -> (state, metrics of shape (K,)). The state is donated.

    The batch is sharded over the mesh's axis "data", the state replicated; so batch norm sees the global batch.
    """
    shardings = {"in_shardings": (replicated(mesh), sharded(mesh)), "out_shardings": (replicated(mesh), replicated(mesh))}

    @functools.partial(jax.jit, donate_argnums=0, **shardings)
    def steps(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        return scan(step, state, batches, unroll=True)

    return steps


def jit_loop(step: Step, mesh: Mesh) -> jax.stages.Wrapped:
    """The same in a loop, of `count` steps: (state, count, K batches) -> (state, metrics).

    Steps are made on the first `count` () int32 of the K batches; of the metrics (K,) the rest is 0. One program serves
    all counts. On CPU it is slow, see `scan`.
    """
    everywhere, step = replicated(mesh), jax.jit(step, inline=True)  # traced once, for its shapes and in the loop

    @functools.partial(
        jax.jit, donate_argnums=0, in_shardings=(everywhere, everywhere, sharded(mesh)), out_shardings=(everywhere, everywhere)
    )
    def steps(state: TrainState, count: jax.Array, batches: Batch) -> tuple[TrainState, Metrics]:
        def batch_at(index: int | jax.Array) -> Batch:
            return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), batches)

        def body(index: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, of_step = step(state, batch_at(index))
            return state, jax.tree.map(lambda of_call, value: of_call.at[index].set(value), metrics, of_step)

        most = jax.tree.leaves(batches)[0].shape[0]
        metrics = jax.eval_shape(lambda state: step(state, batch_at(0))[1], state)
        zeros = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), metrics)
        return jax.lax.fori_loop(0, count, body, (state, zeros))

    return steps


def _most_that_fit(experiment: Experiment) -> int:
    """How many batches take at most _BYTES_PER_CALL; one does in any case."""
    train = experiment.dataset.train
    assert train.image_shape is not None
    *stored, channels = train.image_shape
    pixels = max(height * width for height, width in [stored, *experiment.sizes.sizes]) * channels
    example = pixels + sum(column.nbytes for column in train.rows(np.arange(1)).values())
    return max(1, _BYTES_PER_CALL // (experiment.config.batch_size * example))

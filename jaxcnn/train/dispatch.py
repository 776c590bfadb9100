"""The calls that training makes: how many steps each, on which batches, by which compiled program."""

import functools
import itertools
import math
from collections.abc import Collection, Iterator

import jax
import numpy as np

from jaxcnn.data import Batch, Sizes
from jaxcnn.train.clock import AheadOfTime, Clock
from jaxcnn.train.experiment import Experiment, replicated
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import Metrics, jit_loop, jit_steps

_STEPS_PER_DISPATCH = 32  # on accelerators, where a call to the device costs more than a small step
_BYTES_PER_DISPATCH = 256 * 2**20  # of the batches of one call


class Dispatch:
    """The calls from step `start` to the last. `every` says after how many steps a row, an evaluation, a checkpoint is due.

    There is one program for each size of images (see data.sizes): of one step, or of a loop over as many steps as a call
    makes, on arrays that have room for the most that any call of the run makes.
    """

    def __init__(self, experiment: Experiment, start: int, clock: Clock):
        config, size, total, sizes = experiment.config, experiment.config.batch_size, experiment.total_steps, experiment.sizes
        self.every = {name: experiment.steps(f"{name}.every") for name in ("log", "evaluate", "checkpoint")}
        limit = min(config.steps_per_dispatch or (1 if experiment.on_cpu else _STEPS_PER_DISPATCH), _most_that_fit(experiment))
        # of the whole run: a resumed one, which may start between two ends, has the same program and no longer calls
        most = max(plan(0, total, limit, self.every.values(), sizes))
        self.counts = list(plan(start, total, most, self.every.values(), sizes))
        read = experiment.reader(experiment.dataset.train)
        self.batches: Iterator[Batch] = read(experiment.order(), start * size, size, self.counts, most)
        self._start, self._sizes, self._loops = start, sizes, most > 1
        counts = {count: jax.device_put(np.int32(count), replicated(experiment.mesh)) for count in {*self.counts, most}}
        self._count_on_device = counts

        @functools.cache
        def program(size: tuple[int, int] | None) -> AheadOfTime:
            make = jit_loop if self._loops else jit_steps
            return AheadOfTime(make(experiment.train_step(size), experiment.mesh), clock)

        self._program = program

    def begin(self, template: TrainState) -> None:
        """Reads the first batch, and has the first program compiled while the state itself is made."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        self._program(self._sizes.at_step(self._start)).begin(*self._arguments(template, self.counts[0], first))

    def __call__(self, state: TrainState, batch: Batch, step: int, count: int) -> tuple[TrainState, Metrics]:
        """The state and the metrics of the `count` steps after `step`: the first `count` values. `state` is donated."""
        return self._program(self._sizes.at_step(step))(*self._arguments(state, count, batch))

    def _arguments(self, state: TrainState, count: int, batch: Batch) -> tuple:
        return (state, self._count_on_device[count], batch) if self._loops else (state, batch)


def plan(step: int, total: int, most: int, intervals: Collection[int], sizes: Sizes) -> Iterator[int]:
    """How many steps each call makes: at most `most`, and none past an interval's end or another size.

    What lies between two ends is shared out evenly, so that arrays for the longest call have little room to spare.
    """
    while step < total:
        steps = min([sizes.until(step, total), *((step // n + 1) * n for n in intervals)]) - step
        count = math.ceil(steps / math.ceil(steps / most))
        yield count
        step += count


def _most_that_fit(experiment: Experiment) -> int:
    """How many batches take at most _BYTES_PER_DISPATCH; one does in any case."""
    train = experiment.dataset.train
    assert train.image_shape is not None
    *stored, channels = train.image_shape
    pixels = max(height * width for height, width in [stored, *experiment.sizes.sizes]) * channels
    example = pixels + sum(column.nbytes for column in train.rows(np.arange(1)).values())
    return max(1, _BYTES_PER_DISPATCH // (experiment.config.batch_size * example))

"""The calls that training makes: how many steps each, on which batches, by which compiled program."""

import functools
import itertools
from collections.abc import Collection, Iterator

from jaxcnn.data import Batch, Sizes
from jaxcnn.train.clock import AheadOfTime, Clock
from jaxcnn.train.experiment import Experiment
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import Metrics, jit_steps

_STEPS_PER_DISPATCH = 32  # on accelerators, where a call to the device costs more than a small step


class Dispatch:
    """The calls from step `start` to the last. `every` says after how many steps a row, an evaluation, a checkpoint is due."""

    def __init__(self, experiment: Experiment, start: int, clock: Clock):
        config, size = experiment.config, experiment.config.batch_size
        self.every = {name: experiment.steps(f"{name}.every") for name in ("log", "evaluate", "checkpoint")}
        most = config.steps_per_dispatch or (1 if experiment.on_cpu else _STEPS_PER_DISPATCH)
        self.counts = list(plan(start, experiment.total_steps, most, self.every.values(), experiment.sizes))
        read = experiment.reader(experiment.dataset.train)
        self.batches: Iterator[Batch] = read(experiment.order(), start * size, size, self.counts)
        self._start, self._sizes = start, experiment.sizes

        @functools.cache
        def program(size: tuple[int, int] | None) -> AheadOfTime:
            return AheadOfTime(jit_steps(experiment.train_step(size), experiment.mesh, unroll=experiment.on_cpu), clock)

        self._program = program

    def begin(self, template: TrainState) -> None:
        """Reads the first batch, and has the first program compiled while the state itself is made."""
        first = next(self.batches)
        self.batches = itertools.chain([first], self.batches)
        self._program(self._sizes.at_step(self._start)).begin(template, first)

    def __call__(self, state: TrainState, batch: Batch, step: int) -> tuple[TrainState, Metrics]:
        """The state and the metrics of the steps after `step`, K for K batches. `state` is donated."""
        return self._program(self._sizes.at_step(step))(state, batch)


def plan(step: int, total: int, most: int, intervals: Collection[int], sizes: Sizes) -> Iterator[int]:
    """How many steps each call makes: `most`, or those of the shortest interval, where that leads past no interval's end and
    to no other size; else 1. So there are two programs to compile.
    """
    most = min(most, sizes.most_steps, *intervals)
    while step < total:
        stop = min([sizes.until(step, total), *((step // n + 1) * n for n in intervals)])
        count = most if step + most <= stop else 1
        yield count
        step += count

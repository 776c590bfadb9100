"""Batches of a data set that stays in host memory or on disk: Grain's threads or processes read ahead."""

import dataclasses
import functools
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import resource_tracker
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn import signals
from jaxcnn.data.fields import PADDING
from jaxcnn.data.order import ExampleOrder
from jaxcnn.data.reading import Batch, Reader, Reading, aligned, none_readable_error, read_example, read_or_none
from jaxcnn.data.replacement import Replacements
from jaxcnn.data.sources import Source, training_view
from jaxcnn.errors import RunFailed


def streamed(source: Source, mesh: Mesh, reading: Reading) -> Reader:
    """Returns a reader that reads images while its batches are consumed.

    It raises UserError if not a single image could be read, and RunFailed if a reading process was killed.
    """
    sharded = NamedSharding(mesh, P(None, "data"))

    def read(order: ExampleOrder, start: int, batch_size: int, counts: Iterable[int], most: int = 0) -> Iterator[Batch]:
        import grain  # takes a quarter of a second, which runs with resident data save

        counts = list(counts)
        # Grain distributes elements over processes. As an element is a batch, processes make the same batches as threads.
        elements = _Batches(source, order, start, batch_size, sum(counts), reading.skip)
        options = grain.ReadOptions(num_threads=reading.threads, prefetch_buffer_size=max(reading.threads, 2))
        dataset = grain.MapDataset.source(elements).to_iter_dataset(options)
        if reading.workers:
            if not flags.FLAGS.is_parsed():  # Grain reads one of its flags, also where nothing parses flags, as in a notebook
                flags.FLAGS.mark_as_parsed()
            # the resource tracker removes the shared memory of a killed process; no need to warn of that
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=reading.workers, per_worker_buffer_size=2))
        batches = iter(dataset)
        nothing_read = bool(counts)
        try:
            elements_read = _first_read(batches) if reading.workers else batches
            for count in counts:
                batches_read = [next(elements_read) for _ in range(count)]
                stacked = {
                    name: _stacked([batch[name] for batch in batches_read], most, PADDING.get(name, 0))
                    for name in batches_read[0]
                }
                skipped = stacked.pop("skipped")[:count]
                reading.skipped.update(source.name(int(index)) for index in skipped[skipped >= 0])
                nothing_read = nothing_read and not stacked["mask"].any()
                yield jax.device_put(stacked, sharded)
            if nothing_read:
                raise none_readable_error(source)
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            raise RunFailed(
                "data.workers: a process that reads examples was killed, perhaps because memory ran out. "
                "The last checkpoint is kept; run the same command again to resume"
            ) from error
        finally:
            batches.close()

    return read


def _first_read(batches: Iterator[Any]) -> Iterator[Any]:
    """Returns `batches` after starting its processes with signals blocked.

    A signal to the process group (Ctrl-C) must not end them, as the run may need them to finish its current steps.
    """
    with signals.blocked_in_children():
        resource_tracker.ensure_running()  # started later, it would unblock two of the signals for the processes after it
    with signals.blocked_in_children():
        first = next(batches)
    return itertools.chain([first], batches)


@dataclasses.dataclass(frozen=True)
class _Batches:
    """A Grain data source of `number` batches: the examples at positions `start`, `start` + 1, … of `order`."""

    source: Source
    order: ExampleOrder
    start: int
    batch_size: int
    number: int
    skip: bool

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickles in a reading process, which from then on ends with its parent, even if the parent is killed."""
        self.__dict__.update(state)
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        positions = self.start + number * self.batch_size + np.arange(self.batch_size)
        indices = self.order[positions]
        mask, indices = indices >= 0, np.maximum(indices, 0)
        skipped = np.full(self.batch_size, -1)
        shape = self._shape(int(positions[0]))
        examples = {"image": aligned((self.batch_size, *shape))}
        if self.source.has_maps:
            examples["map"] = aligned((self.batch_size, *shape[:2]))
        for row in np.flatnonzero(mask).tolist():
            index, position = int(indices[row]), int(positions[row])
            view = training_view(self.source, position)
            read = functools.partial(read_or_none if self.skip else read_example, self.source, view=view)
            example = read(index)
            if example is None:
                skipped[row], mask[row] = index, self.order.training
                if self.order.training:
                    indices[row], example = self._replacements.find(index, self.order.draw(position), read)
            for name, array in (example or {}).items():
                examples[name][row] = array
        columns = self.source.rows(indices) | examples
        for name, padding in ({"image": 0} | PADDING).items():
            if name in columns:
                columns[name][~mask] = padding
        return {
            **columns,
            "mask": mask,
            "index": indices.astype(np.int32),
            "epoch": (positions // len(self.source)).astype(np.int32),
            "skipped": skipped,
        }

    def _shape(self, position: int) -> tuple[int, int, int]:
        """Returns (H, W, C) of the images of the batch that contains this position."""
        assert self.source.image_shape is not None, "images differ in size; jaxcnn.data.load resizes them"
        height, width, channels = self.source.image_shape
        view = training_view(self.source, position)
        return (*view.size, channels) if view else (height, width, channels)

    @functools.cached_property
    def _replacements(self) -> Replacements:
        return Replacements(self.source)


def _stacked(arrays: list[np.ndarray], most: int, padding: int) -> np.ndarray:
    """Stacks K arrays (…), followed by arrays of the value `padding` if `most` is more than K: (max(K, most), …)."""
    if len(arrays) == 1 and most <= 1:
        return arrays[0][None]
    if len(arrays) < most:
        arrays = arrays + [np.full_like(arrays[0], padding)] * (most - len(arrays))
    return np.stack(arrays)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)

"""What a trained network predicts for picture files, in batches of one size: one program, and memory for one batch."""

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn import data
from jaxcnn.errors import UserError
from jaxcnn.evaluate import make_predict
from jaxcnn.tasks.task import Outputs
from jaxcnn.train.devices import sharded
from jaxcnn.train.trained import Trained

BATCH = 16
"""Pictures that are predicted together; fewer are padded."""


def predict_each(trained: Trained, files: Iterable[str | Path]) -> Iterator[tuple[str, Outputs | UserError]]:
    """Each file, in order, with the task's outputs for it (NumPy arrays without a batch axis), or why it can't be read.

    Files are read while the results are taken.
    """
    predict = make_predict(trained.task, trained.mesh)
    size = -(-BATCH // trained.mesh.size) * trained.mesh.size
    read = _read_ahead(trained.preprocessing.read, files, size)
    while group := list(itertools.islice(read, size)):
        images = [image for _, image in group if isinstance(image, np.ndarray)]
        outputs: Outputs = None
        if images:
            batch = np.zeros((1, size, *images[0].shape), np.uint8)
            batch[0, : len(images)] = images
            outputs = jax.device_get(predict(trained.variables, {"image": jax.device_put(batch, sharded(trained.mesh))}))
        rows = itertools.count()
        for file, image in group:
            if isinstance(image, UserError):
                yield file, image
            else:
                row = next(rows)
                yield file, jax.tree.map(lambda x: x[row], outputs)  # noqa: B023


def predict_files(
    trained: Trained, files: Sequence[str | Path], top: int | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """What is on pictures: [{"file", and what Task.describe returns for `top`}], and a line for each file that can't be read.

    A classifier's are [{"file", "classes": [{"name", "probability"}, the most probable first]}].
    """
    results, unreadable = [], []
    for file, outputs in predict_each(trained, files):
        if isinstance(outputs, UserError):
            unreadable.append(str(outputs))
        else:
            results.append({"file": file, **trained.task.describe(outputs, top)})
    return results, unreadable


def _read_ahead(
    read: Callable[[str | Path], np.ndarray], files: Iterable[str | Path], ahead: int
) -> Iterator[tuple[str, np.ndarray | UserError]]:
    """Each file, in order, with its image or why it can't be read; threads read `ahead` ones before they are taken."""

    def image(file: str | Path) -> np.ndarray | UserError:
        try:
            return read(file)
        except UserError as mistake:
            return mistake

    waiting: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(data.cores()) as pool:
        for file in files:
            waiting.append((str(file), pool.submit(image, file)))
            if len(waiting) > ahead:
                name, future = waiting.popleft()
                yield name, future.result()
        for name, future in waiting:
            yield name, future.result()

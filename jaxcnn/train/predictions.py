"""What a trained network predicts for picture files, in batches of one size: one program, and memory for one batch."""

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcnn import data
from jaxcnn.data.photo import Photo
from jaxcnn.errors import UserError
from jaxcnn.evaluate import make_predict
from jaxcnn.tasks.task import Outputs
from jaxcnn.train.devices import sharded
from jaxcnn.train.trained import Trained

BATCH = 16
"""Pictures that are predicted together; fewer are padded."""


class Prediction(NamedTuple):
    """What was predicted for one picture, or why it can't be read."""

    file: str
    photo: Photo | None
    outputs: Outputs
    """the task's for this picture, NumPy arrays without a batch axis"""
    error: UserError | None = None


def predict_each(trained: Trained, files: Iterable[str | Path]) -> Iterator[Prediction]:
    """Each file, in order. Files are read while the results are taken."""
    predict = make_predict(trained.task, trained.mesh)
    size = -(-BATCH // trained.mesh.size) * trained.mesh.size
    read = _read_ahead(trained.preprocessing.photo, files, size)
    while group := list(itertools.islice(read, size)):
        photos = [photo for _, photo in group if isinstance(photo, Photo)]
        outputs: Outputs = None
        if photos:
            batch = np.zeros((1, size, *photos[0].image.shape), np.uint8)
            batch[0, : len(photos)] = [photo.image for photo in photos]
            outputs = jax.device_get(predict(trained.variables, {"image": jax.device_put(batch, sharded(trained.mesh))}))
        rows = itertools.count()
        for file, photo in group:
            if isinstance(photo, UserError):
                yield Prediction(file, None, None, photo)
            else:
                row = next(rows)
                yield Prediction(file, photo, jax.tree.map(lambda x: x[row], outputs))  # noqa: B023


def predict_files(
    trained: Trained, files: Sequence[str | Path], top: int | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """What is on pictures: [{"file", and what Task.describe returns for `top`}], and a line for each file that can't be read.

    A classifier's are [{"file", "classes": [{"name", "probability"}, the most probable first]}].
    """
    results, unreadable = [], []
    for prediction in predict_each(trained, files):
        if prediction.error:
            unreadable.append(str(prediction.error))
        else:
            results.append({"file": prediction.file, **trained.task.describe(prediction.outputs, top)})
    return results, unreadable


def _read_ahead(
    read: Callable[[str | Path], Photo], files: Iterable[str | Path], ahead: int
) -> Iterator[tuple[str, Photo | UserError]]:
    """Each file, in order, with its photo or why it can't be read; threads read `ahead` ones before they are taken."""

    def photo(file: str | Path) -> Photo | UserError:
        try:
            return read(file)
        except UserError as mistake:
            return mistake

    waiting: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(data.cores()) as pool:
        for file in files:
            waiting.append((str(file), pool.submit(photo, file)))
            if len(waiting) > ahead:
                name, future = waiting.popleft()
                yield name, future.result()
        for name, future in waiting:
            yield name, future.result()

"""Predictions of a trained network for image files, in batches of constant size, so that only one program is compiled."""

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
"""Number of images per batch, rounded up to a multiple of the devices. The last batch is padded."""


class Prediction(NamedTuple):
    """The prediction for one image file, or the error if the file cannot be read."""

    file: str
    photo: Photo | None
    outputs: Outputs
    """outputs of the task for this image: NumPy arrays without a batch axis"""
    error: UserError | None = None


def predict_each(trained: Trained, files: Iterable[str | Path]) -> Iterator[Prediction]:
    """Yields a prediction for each file, in order. Threads read the following files in the meantime."""
    predict = make_predict(trained.task, trained.mesh)
    size = -(-BATCH // trained.mesh.size) * trained.mesh.size
    read = _read_ahead(trained.preprocessing.photo, files, size)
    while batch_files := list(itertools.islice(read, size)):
        photos = [photo for _, photo in batch_files if isinstance(photo, Photo)]
        outputs: Outputs = None
        if photos:
            batch = np.zeros((1, size, *photos[0].image.shape), np.uint8)
            batch[0, : len(photos)] = [photo.image for photo in photos]
            outputs = jax.device_get(predict(trained.variables, {"image": jax.device_put(batch, sharded(trained.mesh))}))
        rows = itertools.count()
        for file, photo in batch_files:
            if isinstance(photo, UserError):
                yield Prediction(file, None, None, photo)
            else:
                row = next(rows)
                output = jax.tree.map(lambda x: x[row], outputs)  # noqa: B023
                yield Prediction(file, photo, trained.task.without_padding(output, photo))


def predict_files(
    trained: Trained, files: Sequence[str | Path], top: int | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the predictions for image files, and an error message for each file that cannot be read.

    A prediction is a dict with "file" and the result of Task.describe. For a classifier these are the `top` most probable
    classes in descending order: {"file", "classes": [{"name", "probability"}, …]}.
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
    """Yields each file, in order, with its image or the error of reading it. Threads read up to `ahead` files in advance."""

    def photo(file: str | Path) -> Photo | UserError:
        try:
            return read(file)
        except UserError as error:
            return error

    pending: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(data.cores()) as pool:
        for file in files:
            pending.append((str(file), pool.submit(photo, file)))
            if len(pending) > ahead:
                name, future = pending.popleft()
                yield name, future.result()
        for name, future in pending:
            yield name, future.result()

"""What a trained network sees on picture files, in batches of one size: one program and a bounded memory for any number."""

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn import data
from jaxcnn.errors import UserError
from jaxcnn.tasks.classification_metrics import probabilities
from jaxcnn.train.trained import Trained

BATCH = 16
"""Pictures that are classified together; fewer are padded."""


def predict_each(trained: Trained, files: Iterable[str | Path]) -> Iterator[tuple[str, np.ndarray | UserError]]:
    """Each file, in order, with the probabilities (K,) float32 of the classes, or why it can't be read.

    Files are read while the results are taken.
    """
    predict = trained.predict()
    size = -(-BATCH // trained.mesh.size) * trained.mesh.size
    sharding = NamedSharding(trained.mesh, P(None, "data"))
    read = _read_ahead(trained.preprocessing.read, files, size)
    while group := list(itertools.islice(read, size)):
        images = [image for _, image in group if isinstance(image, np.ndarray)]
        rows: Iterator[np.ndarray] = iter(())
        if images:
            batch = np.zeros((1, size, *images[0].shape), np.uint8)
            batch[0, : len(images)] = images
            logits = predict(trained.variables, jax.device_put(batch, sharding))
            rows = iter(probabilities(np.asarray(logits)[: len(images)], trained.task))
        for file, image in group:
            yield file, image if isinstance(image, UserError) else next(rows)


def ranked(class_names: Sequence[str], row: np.ndarray) -> list[dict[str, Any]]:
    """[{"name", "probability"}], the most probable class first."""
    return [{"name": class_names[i], "probability": float(row[i])} for i in np.argsort(-row, kind="stable")]


def predict_files(trained: Trained, files: Sequence[str | Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is on pictures: [{"file", "classes": [{"name", "probability"}, most probable first]}], and a line for each
    file that can't be read.
    """
    results, unreadable = [], []
    for file, row in predict_each(trained, files):
        if isinstance(row, UserError):
            unreadable.append(str(row))
        else:
            results.append({"file": file, "classes": ranked(trained.class_names, row)})
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

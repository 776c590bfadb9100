"""Logits of exactly N examples, whatever the batch size and the number of devices; and what they are worth."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcnn.data import Batch, Preprocessing, View
from jaxcnn.errors import RunFailed
from jaxcnn.tasks.classification_metrics import LabelKind, accuracy, top_k_accuracy

Predict = Callable[[dict, jax.Array | np.ndarray], jax.Array]
"""(variables, images (1, B, H, W, C) uint8) -> logits (B, K) float32. The leading 1 is a batch's K, see data.Batch."""


def make_predict(model: nn.Module, preprocessing: Preprocessing, mesh: Mesh, views: Sequence[View] = ()) -> jax.stages.Wrapped:
    """The jitted forward pass of evaluation, a `Predict`; images may be sharded over the mesh, logits come out replicated."""

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def predict(variables, images):
        images = preprocessing(images[0])
        seen = [(view.weight, view(images)) for view in views] or [(1.0, images)]
        return sum(weight * jnp.asarray(model.apply(variables, view, train=False)) for weight, view in seen)

    return predict


def collect(predict: Predict, networks: Sequence[dict], batches: Iterable[Batch]) -> tuple[list[np.ndarray], np.ndarray]:
    """Logits (N, K) float32 of each network's variables, and the labels, of the N examples in `batches`, read once.

    Padding (mask False) is left out.
    """
    logits: list[list[np.ndarray]] = [[] for _ in networks]
    labels = []
    for batch in batches:
        predicted = [predict(variables, batch["image"]) for variables in networks]
        predicted, label, mask = jax.device_get((predicted, batch["label"], batch["mask"]))
        labels.append(label[0][mask[0]])
        for of_network, of_batch in zip(logits, predicted, strict=True):
            of_network.append(of_batch[mask[0]])
    return [np.concatenate(of_network) for of_network in logits], np.concatenate(labels)


def measure(
    logits: np.ndarray, labels: np.ndarray, task: LabelKind, losses: Callable[[np.ndarray, np.ndarray], jax.Array]
) -> dict[str, float]:
    """{"accuracy", "loss", "examples"}, and "top5_accuracy" where there are more than 5 classes to choose from.

    `losses` gives one loss an example: (logits, labels) -> (N,).

    Raises:
      RunFailed: there are no examples, so there is nothing to average over.
    """
    if not len(labels):
        raise RunFailed("evaluation: there are no examples to evaluate")
    figures = {
        "accuracy": accuracy(logits, labels, task),
        "loss": float(np.asarray(losses(logits, labels), np.float64).mean()),
        "examples": len(labels),
    }
    if task == "multiclass" and logits.shape[1] > 5:
        figures["top5_accuracy"] = top_k_accuracy(logits, labels, 5)
    return figures


def finite(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """The same for JSON, which has no NaN and no infinity: None in their place."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}

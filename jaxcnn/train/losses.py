"""Losses: one number an example from logits and labels.

A task is what labels and logits mean, and it decides which loss can be used:

    "multiclass"  labels (N,) int32, logits (N, K)
    "binary"      labels (N,) in {0, 1}, logits (N, 1), sigmoid
    "multilabel"  labels (N, K) of zeros and ones, logits (N, K), sigmoid
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from jaxcnn.data import Source
from jaxcnn.errors import UserError
from jaxcnn.evaluate import Task

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Losses = Callable[..., jax.Array]


def task_of(source: Source, num_classes: int, loss: str) -> Task:
    """The task that labels of this shape and the setting loss.name make together."""
    if source.labels.ndim == 2:
        if loss != "sigmoid_binary_cross_entropy":
            one_hot = (
                "; if these are one-hot rows, store labels.argmax(axis=1)" if (source.labels.sum(axis=1) == 1).all() else ""
            )
            raise UserError(
                f"loss.name: {loss} takes one label an image, but these have several: use sigmoid_binary_cross_entropy{one_hot}"
            )
        return "multilabel"
    return "binary" if num_classes == 2 and loss == "sigmoid_binary_cross_entropy" else "multiclass"


def num_outputs(task: Task, num_classes: int) -> int:
    """How many logits a network for this task has."""
    return 1 if task == "binary" else num_classes


def targets_of(labels: jax.Array, outputs: int) -> jax.Array:
    """(N,) or (N, K) labels -> (N, K) float32: zeros and ones, or the shares of several classes that a mixture has."""
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    return labels[:, None].astype(jnp.float32) if outputs == 1 else jax.nn.one_hot(labels, outputs)


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """(N,) float32: -Σ target · log softmax(logits). Label smoothing: Szegedy et al. 2016, section 7."""
    targets = optax.smooth_labels(targets_of(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid_binary_cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """(N,) float32: the binary cross entropies of an example's K logits, averaged over them.

    Smoothed targets are y · (1 - s) + s / 2.
    """
    targets = targets_of(labels, logits.shape[-1]) * (1 - label_smoothing) + label_smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=-1)


def focal(losses: jax.Array, gamma: float) -> jax.Array:
    """(1 - p)^gamma · loss, where p = exp(-loss) is the probability given to the truth (Lin et al. 2017, equation 4)."""
    return losses * (1 - jnp.exp(-losses)) ** gamma


def balanced_class_weights(labels: np.ndarray, num_classes: int, kind: str) -> tuple[float, ...]:
    """A weight a class, 1 on average: by its number n of examples, "inverse" 1/n or "effective" (Cui et al. 2019, eq. 4)."""
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        raise UserError(f"loss.balance: the training set has no example of class {int(np.argmin(counts))}")
    weights = 1 / counts if kind == "inverse" else (1 - 0.999) / (1 - 0.999**counts)
    return tuple((weights * num_classes / weights.sum()).tolist())


LOSSES: dict[str, Losses] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_binary_cross_entropy": sigmoid_binary_cross_entropy,
}


def make_loss(config: ConfigDict, task: Task, num_classes: int, train_labels: np.ndarray | None = None) -> Loss:
    """The mean training loss of a batch, as the settings `loss.*` ask for: (logits, labels) -> scalar.

    With class weights, the weighted mean Σ w·loss / Σ w, as PyTorch's cross entropy has it; with smoothing too, w is
    that of the example's class, where PyTorch weighs each term of the smoothed sum by its own class.
    """
    weights = config.class_weights
    if config.balance != "none":
        if weights or task == "multilabel" or train_labels is None:
            raise UserError("loss.balance: takes one label an image, and no loss.class_weights beside it")
        weights = balanced_class_weights(train_labels, num_classes, config.balance)
    if weights and (task == "multilabel" or len(weights) != num_classes):
        what = "several labels an image" if task == "multilabel" else f"{num_classes} classes"
        raise UserError(f"loss.class_weights: {len(weights)} weights do not fit {what}")
    if weights and not (min(weights) >= 0 and max(weights) > 0):
        raise UserError(f"loss.class_weights: {weights} should be at least 0, and not all 0")

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        losses = LOSSES[config.name](logits, labels, config.label_smoothing)
        if config.focal_gamma:
            losses = focal(losses, config.focal_gamma)
        if not weights:
            return losses.mean()
        weight = jnp.asarray(weights, jnp.float32)
        weight = weight[labels] if labels.ndim == 1 else targets_of(labels, num_classes) @ weight
        return (losses * weight).sum() / jnp.maximum(weight.sum(), 1e-12)

    return loss


def evaluation_losses(config: ConfigDict) -> Losses:
    """(logits, labels) -> (N,): the loss that evaluations report, without smoothing and class weights."""
    return LOSSES[config.name]


def correct(logits: jax.Array, labels: jax.Array, task: Task) -> jax.Array:
    """(N,) float32: 1 where the prediction is right; for several labels the share of an image's that is."""
    if task == "multiclass":
        labels = labels if labels.ndim == 1 else labels.argmax(axis=-1)  # of a mixture: its largest share
        return (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return ((logits > 0) == (targets_of(labels, logits.shape[-1]) > 0)).astype(jnp.float32).mean(axis=-1)

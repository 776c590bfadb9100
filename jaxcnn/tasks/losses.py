"""Classification losses, one value per example from logits and labels.

The kind of labels determines their shape and that of the logits:

    "multiclass"  labels (N,) int32, logits (N, K)
    "binary"      labels (N,) int32, 0 or 1, logits (N, 1), sigmoid
    "multilabel"  labels (N, K) int32, zeros and ones, logits (N, K), sigmoid
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn.data.fields import LabelKind
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.settings import refuse_without_effect
from jaxcnn.tasks.settings import LossSettings

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Losses = Callable[..., jax.Array]


def kind_of(field: str, num_classes: int, loss: str, labels: np.ndarray | None = None) -> LabelKind:
    """Returns the kind of labels that a field ("label" or "labels") and the setting loss.name determine together.

    Raises:
      UserError: there are several labels per image, but the loss needs one.
    """
    if field == "labels":
        if loss != "sigmoid_binary_cross_entropy":
            are_one_hot = labels is not None and (labels.sum(axis=1) == 1).all()
            hint = "; if these are one-hot rows, store labels.argmax(axis=1)" if are_one_hot else ""
            raise UserError(
                f"loss.name: {loss} needs one label per image, but this data set has several; use "
                f"sigmoid_binary_cross_entropy{hint}"
            )
        return "multilabel"
    return "binary" if num_classes == 2 and loss == "sigmoid_binary_cross_entropy" else "multiclass"


def num_outputs(kind: LabelKind, num_classes: int) -> int:
    """Returns the number of logits of a network for labels of this kind."""
    return 1 if kind == "binary" else num_classes


def targets_of(labels: jax.Array, outputs: int) -> jax.Array:
    """Converts labels (N,) or (N, K) to targets (N, `outputs`) float32: one-hot, or as given if they have two axes.

    The latter are multilabel zeros and ones, or the class shares of mixed examples.
    """
    if labels.ndim == 2:
        return labels.astype(jnp.float32)
    return labels[:, None].astype(jnp.float32) if outputs == 1 else jax.nn.one_hot(labels, outputs)


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> jax.Array:
    """Returns -Σ target · log softmax(logits) per example, (N,) float32. Label smoothing: Szegedy et al. 2016, section 7."""
    targets = optax.smooth_labels(targets_of(labels, logits.shape[-1]), label_smoothing)
    return focal(optax.softmax_cross_entropy(logits, targets), focal_gamma)


def sigmoid_binary_cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> jax.Array:
    """Returns the mean of the binary cross entropies (or focal losses) of each example's K logits, (N,) float32.

    Smoothed targets are y · (1 - s) + s / 2.
    """
    targets = targets_of(labels, logits.shape[-1]) * (1 - label_smoothing) + label_smoothing / 2
    return focal(optax.sigmoid_binary_cross_entropy(logits, targets), focal_gamma).mean(axis=-1)


def focal(losses: jax.Array, gamma: float) -> jax.Array:
    """Returns (1 - p)^gamma · loss, where p = exp(-loss) is the probability of the label (Lin et al. 2017, equation 4)."""
    if not gamma:
        return losses
    # At a loss of 0, the gradient of 0^gamma would be infinite for gamma < 1, and 0 · infinity is NaN.
    return losses * jnp.maximum(1 - jnp.exp(-losses), jnp.finfo(losses.dtype).tiny) ** gamma


def balanced_class_weights(labels: np.ndarray, names: Sequence[str], kind: str) -> tuple[float, ...]:
    """Returns a weight per class, 1 on average, from the number n of its examples.

    `kind` is "inverse" for 1 / n, or "effective" for (1 - β) / (1 - β^n) with β = 0.999 (Cui et al. 2019, equation 4).
    Raises UserError if a class has no examples.
    """
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        raise UserError(f'loss.balance: the training set has no example of the class "{names[int(np.argmin(counts))]}"')
    weights = 1 / counts if kind == "inverse" else (1 - 0.999) / (1 - 0.999**counts)
    return tuple((weights * len(names) / weights.sum()).tolist())


def given_class_weights(entries: Sequence[float | str], names: Sequence[str]) -> tuple[float, ...]:
    """Returns the weight of each class from the setting loss.class_weights.

    `entries` are numbers in the order of the classes `names`, or texts "NAME=WEIGHT" in any order.

    Raises:
      UserError: the number of weights is wrong, a class is unknown, missing or given twice, or a weight is negative or not
        a finite number, or all are 0.
    """
    if any(isinstance(entry, str) for entry in entries):
        by_name: dict[str, str] = {}
        for entry in entries:
            name, equals, weight = str(entry).rpartition("=")
            if not equals:
                raise UserError(f'loss.class_weights: {entry!r}; write all of them as "NAME=WEIGHT", or all as numbers')
            if name not in names:
                raise UserError(f'loss.class_weights: no class "{name}"{did_you_mean(name, names)}')
            if name in by_name:
                raise UserError(f'loss.class_weights: two weights for the class "{name}"')
            by_name[name] = weight
        if missing := [name for name in names if name not in by_name]:
            raise UserError(f'loss.class_weights: no weight for the class "{missing[0]}"; give one for each class')
        entries = [by_name[name] for name in names]
    elif len(entries) != len(names):
        raise UserError(f"loss.class_weights: {len(entries)} weights do not fit {len(names)} classes")
    try:
        weights = tuple(float(entry) for entry in entries)
    except (TypeError, ValueError):
        raise UserError(f"loss.class_weights: {tuple(entries)} should be numbers") from None
    if not (np.isfinite(weights).all() and min(weights) >= 0 and max(weights) > 0):
        raise UserError(f"loss.class_weights: {weights} should be finite, at least 0, and not all 0")
    return weights


LOSSES: dict[str, Losses] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_binary_cross_entropy": sigmoid_binary_cross_entropy,
}


def make_loss(
    config: LossSettings,
    kind: LabelKind,
    num_classes: int,
    train_labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> Loss:
    """Returns the training loss of a batch for the settings `loss.*`: a function (logits, labels) -> scalar float32.

        loss = make_loss(LossSettings(label_smoothing=0.1), "multiclass", num_classes=10)

    The loss is the mean over examples. With class weights it is the weighted mean Σ w·loss / Σ w, as in PyTorch's cross
    entropy. With label smoothing too, w is the weight of the example's class, whereas PyTorch weights each term of the smoothed
    sum by its own class. The w of a mixed example is the mean of its classes' weights by their shares:
    (1 - t)·w[0] + t·w[1] for a binary target t.

    Raises:
      UserError: the class weights or loss.balance do not fit the labels, or a changed setting has no effect.
    """
    refuse_without_effect(config)
    weights: tuple[float, ...] = ()
    names = class_names or [str(index) for index in range(num_classes)]
    if config.balance != "none":
        if kind == "multilabel" or train_labels is None:
            raise UserError("loss.balance: expected the labels of the training set, one per image")
        weights = balanced_class_weights(train_labels, names, config.balance)
    elif config.class_weights:
        if kind == "multilabel":
            raise UserError(f"loss.class_weights: {len(config.class_weights)} weights do not fit several labels per image")
        weights = given_class_weights(config.class_weights, names)

    def weight_of(labels: jax.Array) -> jax.Array:
        weight = jnp.asarray(weights, jnp.float32)
        if labels.ndim == 1:
            return weight[labels]
        shares = labels.astype(jnp.float32)
        return (jnp.concatenate([1 - shares, shares], axis=1) if kind == "binary" else shares) @ weight

    def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
        losses = LOSSES[config.name](logits, labels, config.label_smoothing, config.focal_gamma)
        if not weights:
            return losses.mean()
        weight = weight_of(labels)
        return (losses * weight).sum() / jnp.maximum(weight.sum(), 1e-12)

    return loss


def correct(logits: jax.Array, labels: jax.Array, kind: LabelKind) -> jax.Array:
    """Returns 1 for each correct prediction, else 0, (N,) float32; for multilabel, the share of the example's correct labels.

    The label of a mixed example is the class with the largest share, the first one if shares are equal. A binary target is
    positive above 0.5; exactly 0.5 is negative, as is a logit of 0.
    """
    if kind == "multiclass":
        labels = labels if labels.ndim == 1 else labels.argmax(axis=-1)
        return (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return ((logits > 0) == (targets_of(labels, logits.shape[-1]) > 0.5)).astype(jnp.float32).mean(axis=-1)

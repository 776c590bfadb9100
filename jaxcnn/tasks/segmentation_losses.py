"""Losses of semantic segmentation, one value per batch from logits and class maps.

All losses are functions (logits, maps) -> scalar float32, and compute in float32 for logits of any float dtype:

    logits  (B, H, W, K) float, the scores of K classes per pixel
    maps    (B, H, W) uint8, the class of each pixel, less than K, or VOID

Void pixels change neither a loss nor its gradient. If all pixels are void, the loss and its gradient are 0.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn.data.fields import VOID
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.tasks import losses

ClassWeights = Sequence[float] | np.ndarray | jax.Array
SegmentationLoss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, maps: jax.Array, class_weights: ClassWeights | None = None) -> jax.Array:
    """Returns the mean of -log softmax(logits)[class] over the pixels that are not void.

    With class weights w, (K,), it is the weighted mean Σ -w[class] log p[class] / Σ w[class], as in PyTorch's
    CrossEntropyLoss(weight, ignore_index=VOID). Raises ValueError if the number of weights is not K.
    """
    return _mean(_cross_entropies(logits, maps), maps, class_weights, logits.shape[-1])


def focal(logits: jax.Array, maps: jax.Array, gamma: float = 2.0, class_weights: ClassWeights | None = None) -> jax.Array:
    """Returns the mean of -(1 - p)^gamma · log p over the pixels that are not void, where p = softmax(logits)[class].

    Lin et al. 2017, arXiv:1708.02002, equation 4. Class weights, the α of equation 5, give a weighted mean as in
    `cross_entropy`, to which the loss is equal for gamma = 0. Raises ValueError if the number of weights is not K.
    """
    return _mean(losses.focal(_cross_entropies(logits, maps), gamma), maps, class_weights, logits.shape[-1])


def dice(logits: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns the mean over all K classes of 1 - 2 Σ p t / (Σ p + Σ t), where p = softmax(logits) and t is 1 or 0.

    The sums are over the pixels of the batch that are not void. A class that does not occur in the maps contributes 0 to the
    mean. This is segmentation_models_pytorch's DiceLoss("multiclass", ignore_index=VOID), whose denominator is linear; in that
    of Milletari et al. 2016, arXiv:1606.04797, section 3, p and t are squared.
    """
    probabilities, of_class = jax.nn.softmax(logits.astype(jnp.float32)), _one_hot(maps, logits.shape[-1])
    overlap = jnp.where(of_class, probabilities, 0.0).sum(axis=(0, 1, 2))
    predicted = jnp.where((maps != VOID)[..., None], probabilities, 0.0).sum(axis=(0, 1, 2))
    pixels = of_class.sum(axis=(0, 1, 2), dtype=jnp.int32)
    size = jnp.where(pixels > 0, predicted + pixels.astype(jnp.float32), 1.0)
    return jnp.where(pixels > 0, 1 - 2 * overlap / size, 0.0).mean()


def lovasz_softmax(logits: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns the Lovász-Softmax loss of the batch: the mean of the Lovász extensions of 1 - IoU over the occurring classes.

    Berman, Triki, Blaschko 2018, arXiv:1705.08790, definition 2 and algorithm 1, over the batch, with the option "present" of
    the authors' code. It sorts the errors of all B·H·W pixels once per class, which takes most of its time.
    """
    num_classes = logits.shape[-1]
    probabilities = jax.nn.softmax(logits.astype(jnp.float32)).reshape(-1, num_classes).T  # (K, P), P = B·H·W pixels
    in_class = _one_hot(maps.reshape(-1), num_classes).T
    errors = jnp.where(in_class, 1 - probabilities, probabilities)
    pixels = in_class.sum(axis=1, keepdims=True, dtype=jnp.int32)
    kinds = jnp.where(in_class, 1, jnp.where((maps != VOID).reshape(1, -1), -1, 0))
    negative_errors, kinds = jax.lax.sort((-errors, kinds), dimension=1, num_keys=1)
    # The coefficient of an error is the increase of 1 - IoU when its pixel joins the wrong pixels in order of their errors
    # (algorithm 1). A void pixel changes neither the intersection nor the union, so its coefficient is 0, and those of
    # other pixels are as without it. The increases are written as fractions of integers: as differences of rounded IoU,
    # they would be lost in a batch of millions of pixels.
    intersection = (pixels - jnp.cumsum(kinds == 1, axis=1, dtype=jnp.int32)).astype(jnp.float32)
    union = jnp.maximum(pixels + jnp.cumsum(kinds == -1, axis=1, dtype=jnp.int32), 1).astype(jnp.float32)
    of_others = intersection / union / jnp.maximum(union - 1, 1.0)
    coefficients = jnp.where(kinds == 1, 1 / union, jnp.where(kinds == -1, of_others, 0.0))
    extensions = -(negative_errors * coefficients).sum(axis=1)
    occurs = pixels[:, 0] > 0
    return jnp.where(occurs, extensions, 0.0).sum() / jnp.maximum(occurs.sum(dtype=jnp.int32), 1).astype(jnp.float32)


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz_softmax": lovasz_softmax,
}
WEIGHTED_BY_CLASS = ("cross_entropy", "focal")
"""The losses with the argument class_weights."""


def make_segmentation_loss(weights: Mapping[str, float], class_weights: ClassWeights | None = None) -> SegmentationLoss:
    """Returns the sum of the losses `weights`, {name in LOSSES: weight}: a function (logits, maps) -> scalar float32.

        loss = make_segmentation_loss({"cross_entropy": 1.0, "dice": 0.5})

    Losses with weight 0 are not computed. The class weights (K,) are those of the cross entropy and the focal loss.

    Raises:
      UserError: a name is unknown, a weight is negative or not finite, no weight is positive, or there are class weights but
        none of the losses has any.
    """
    for name, weight in weights.items():
        if name not in LOSSES:
            raise UserError(f'loss: no segmentation loss "{name}"{did_you_mean(name, LOSSES)}; available: {", ".join(LOSSES)}')
        if not (np.isfinite(weight) and weight >= 0):
            raise UserError(f"loss.{name}: the weight {weight} should be finite and at least 0")
    terms = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not terms:
        raise UserError(f"loss: {dict(weights)} should have at least one weight above 0")
    if class_weights is not None and not set(WEIGHTED_BY_CLASS) & set(terms):
        raise UserError(f"loss: class weights have no effect on {' and '.join(terms)}; leave them out")

    def loss(logits: jax.Array, maps: jax.Array) -> jax.Array:
        total = jnp.zeros((), jnp.float32)
        for name, weight in terms.items():
            arguments = {"class_weights": class_weights} if name in WEIGHTED_BY_CLASS else {}
            total += weight * LOSSES[name](logits, maps, **arguments)
        return total

    return loss


def median_frequency_weights(pixel_counts: np.ndarray) -> np.ndarray:
    """Returns the class weights median(f) / f(c), (K,) float32, from the pixels of each class per image, (N, K) int.

    f(c) is the number of pixels of class c divided by that of all pixels, except void ones, in the images that contain c. The
    median is over the classes that occur; the weight of a class that never occurs is 0. Eigen and Fergus 2015,
    arXiv:1411.4734; Badrinarayanan et al. 2015, arXiv:1511.00561. Raises ValueError if no class occurs.
    """
    counts = np.asarray(pixel_counts, np.float64)
    pixels = counts.sum(axis=0)
    occurs = pixels > 0
    if not occurs.any():
        raise ValueError(f"pixel_counts of shape {counts.shape}: all pixels are void")
    in_images = counts.sum(axis=1) @ (counts > 0)
    frequencies = pixels[occurs] / in_images[occurs]
    weights = np.zeros(counts.shape[1], np.float32)
    weights[occurs] = np.median(frequencies) / frequencies
    return weights


def _one_hot(maps: jax.Array, num_classes: int) -> jax.Array:
    """Returns whether a pixel is of a class, (..., K) bool; False for void pixels."""
    return maps[..., None] == jnp.arange(num_classes, dtype=maps.dtype).reshape((1,) * maps.ndim + (-1,))


def _cross_entropies(logits: jax.Array, maps: jax.Array) -> jax.Array:
    """Returns -log softmax(logits)[class], (B, H, W) float32; 0 for void pixels, NaN for classes of K and more."""
    is_void = maps == VOID
    classes = jnp.where(is_void, 0, maps.astype(jnp.int32))
    # With its gradient 40 ms for 4×360×480 pixels and 11 classes on 2 cores; 49 ms with `_one_hot` instead of an index.
    values = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), classes)
    return jnp.where(is_void, 0.0, values)


def _mean(values: jax.Array, maps: jax.Array, class_weights: ClassWeights | None, num_classes: int) -> jax.Array:
    """Returns the mean of values (B, H, W) over the pixels that are not void, weighted by class; 0 if the weights sum to 0."""
    weights = (maps != VOID).astype(jnp.float32)
    if class_weights is not None:
        if len(class_weights) != num_classes:
            raise ValueError(f"{len(class_weights)} class weights do not fit {num_classes} classes")
        weights *= jnp.asarray(class_weights, jnp.float32)[jnp.minimum(maps, num_classes - 1).astype(jnp.int32)]
    total = weights.sum()
    return (values * weights).sum() / jnp.where(total > 0, total, 1.0)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.data.fields import VOID
from jaxcnn.errors import UserError
from jaxcnn.tasks.segmentation_losses import (
    LOSSES,
    cross_entropy,
    dice,
    focal,
    lovasz_softmax,
    make_segmentation_loss,
    median_frequency_weights,
)

WEIGHTS = (0.5, 2.0, 0.0, 1.5)


def problem(num_classes, absent=None, seed=0):
    """Random logits (2, 4, 5, K) and maps (2, 4, 5); a quarter of the pixels is void, and one class may not occur."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, num_classes, (2, 4, 5)).astype(np.uint8)
    if absent is not None:
        maps[maps == absent] = (absent + 1) % num_classes
    maps[rng.random(maps.shape) < 0.25] = VOID
    return (3 * rng.standard_normal((*maps.shape, num_classes))).astype(np.float32), maps


def pixels(logits, maps):
    """The probabilities (P, K) float64 and classes (P,) of the pixels that are not void."""
    logits, maps = np.asarray(logits, np.float64).reshape(maps.size, -1), maps.ravel()
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True))[maps != VOID], maps[maps != VOID]


def cross_entropy_of_loops(logits, maps, class_weights=None, gamma=0):
    loss = weights = 0
    for p, label in zip(*pixels(logits, maps), strict=True):
        weight = 1 if class_weights is None else class_weights[label]
        loss -= weight * (1 - p[label]) ** gamma * np.log(p[label])
        weights += weight
    return loss / weights


def focal_of_loops(logits, maps, class_weights=None):
    return cross_entropy_of_loops(logits, maps, class_weights, gamma=2)


def dice_of_loops(logits, maps):
    p, labels = pixels(logits, maps)
    losses = np.zeros(p.shape[1])
    for k in set(labels):
        target = labels == k
        losses[k] = 1 - 2 * (p[:, k] * target).sum() / (p[:, k].sum() + target.sum())
    return losses.mean()


def lovasz_of_sets(logits, maps):
    """The definition: Σ error · (loss of the set of wrong pixels with this one - without it), in order of the errors."""

    def jaccard_loss(wrong, of_class):
        return len(wrong) / len(of_class | wrong)

    p, labels = pixels(logits, maps)
    losses = []
    for k in set(labels):
        of_class = set(np.flatnonzero(labels == k))
        errors = np.where(labels == k, 1 - p[:, k], p[:, k])
        order = list(np.argsort(-errors))
        values = [jaccard_loss(set(order[:n]), of_class) for n in range(len(order) + 1)]
        losses.append((errors[order] * np.diff(values)).sum())
    return np.mean(losses)


REFERENCES = {
    cross_entropy: cross_entropy_of_loops,
    focal: focal_of_loops,
    dice: dice_of_loops,
    lovasz_softmax: lovasz_of_sets,
}
each_loss = pytest.mark.parametrize("loss", REFERENCES, ids=lambda loss: loss.__name__)


def close(found, expected, rtol=2e-5):
    assert found.dtype == jnp.float32
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=rtol)


@each_loss
@pytest.mark.parametrize(("num_classes", "absent"), [(2, None), (4, 2), (11, 5)])
def test_losses_are_those_of_their_definitions(loss, num_classes, absent):
    logits, maps = problem(num_classes, absent)
    close(jax.jit(loss)(logits, maps), REFERENCES[loss](logits, maps))


@each_loss
def test_losses_of_bfloat16_logits_are_computed_in_float32(loss):
    logits, maps = problem(4)
    logits = jnp.asarray(logits, jnp.bfloat16)
    close(jax.jit(loss)(logits, maps), REFERENCES[loss](logits.astype(jnp.float32), maps))


@each_loss
def test_gradient_is_that_of_finite_differences_and_0_in_void_pixels(loss):
    logits, maps = problem(3)
    gradient = jax.jit(jax.grad(loss))(logits, maps)
    assert not np.asarray(gradient)[maps == VOID].any()
    reference, step = REFERENCES[loss], 1e-5
    for place in [(0, 0, 0, 1), (1, 3, 4, 0), (0, 2, 3, 2), (1, 1, 1, 1)]:
        change = np.zeros(logits.shape)
        change[place] = step
        slope = (reference(logits + change, maps) - reference(logits - change, maps)) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-4, atol=1e-7)


@each_loss
def test_logits_of_void_pixels_have_no_effect(loss):
    logits, maps = problem(4)
    other = np.where((maps == VOID)[..., None], 50 * logits[::-1, ::-1], logits)
    loss = jax.jit(loss)
    close(loss(other, maps), loss(logits, maps), rtol=1e-6)


@each_loss
def test_only_void_pixels_give_loss_and_gradient_0(loss):
    logits, maps = problem(4)
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits, np.full_like(maps, VOID))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(logits))


@each_loss
def test_large_logits_give_finite_losses_and_gradients(loss):
    logits, maps = problem(4)
    logits = np.sign(logits) * np.float32(1e4)
    logits[0, :, :2] = -1e4
    assert (maps[0, :, :2] == VOID).any()
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits, maps)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [cross_entropy, focal], ids=lambda loss: loss.__name__)
def test_class_that_has_no_logit_gives_nan(loss):
    logits, maps = problem(4)
    maps[1, 2, 3] = 4
    assert jnp.isnan(jax.jit(loss)(logits, maps))


@pytest.mark.parametrize("loss", [dice, lovasz_softmax])
def test_losses_of_overlap_are_0_for_right_and_1_for_wrong_classes(loss):
    _, maps = problem(3)
    loss, right = jax.jit(loss), 100 * np.eye(3, dtype=np.float32)[maps % 3]  # VOID % 3 = 0
    close(loss(right, maps), 0)
    close(loss(np.roll(right, 1, axis=-1), maps), 1)


# From torch 2.13.0: CrossEntropyLoss(weight=None or tensor(WEIGHTS), ignore_index=255) of these logits and maps in float64,
# with the sum of the gradient's absolute values; and segmentation_models_pytorch's formula of DiceLoss("multiclass").
PYTORCH_LOGITS = (3 * np.sin(1.7 * np.arange(2 * 3 * 4 * 4))).reshape(2, 3, 4, 4).astype(np.float32)
PYTORCH_MAPS = np.array([0, 1, 2, 3, VOID], np.uint8)[7 * np.arange(24) % 5].reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("class_weights", "value", "gradients"), [(None, 2.8113138023, 1.4813725210), (WEIGHTS, 2.6900255733, 1.4285035536)]
)
def test_cross_entropy_is_that_of_pytorch(class_weights, value, gradients):
    found, gradient = jax.jit(jax.value_and_grad(lambda *batch: cross_entropy(*batch, class_weights)))(
        PYTORCH_LOGITS, PYTORCH_MAPS
    )
    close(found, value)
    close(jnp.abs(gradient).sum(), gradients)


def test_dice_is_that_of_segmentation_models_pytorch():
    close(jax.jit(dice)(PYTORCH_LOGITS, PYTORCH_MAPS), 0.7411100721)


@pytest.mark.parametrize("loss", [cross_entropy, focal], ids=lambda loss: loss.__name__)
def test_class_weights_weigh_the_mean(loss):
    logits, maps = problem(4)
    jitted = jax.jit(lambda logits, maps, weights: loss(logits, maps, class_weights=weights))
    close(jitted(logits, maps, np.array(WEIGHTS)), REFERENCES[loss](logits, maps, WEIGHTS))
    close(jitted(logits, maps, np.full(4, 0.1)), REFERENCES[loss](logits, maps))
    with pytest.raises(ValueError, match="3 class weights do not fit 4 classes"):
        jitted(logits, maps, WEIGHTS[:3])


def test_batch_of_classes_with_weight_0_has_loss_0_and_no_nan():
    logits, maps = problem(4)
    loss = jax.jit(jax.value_and_grad(lambda *batch: cross_entropy(*batch, WEIGHTS)))
    value, gradient = loss(logits, np.where(maps == VOID, maps, np.uint8(2)))
    assert value == 0
    assert not gradient.any()


def test_focal_loss_of_gamma_0_is_the_cross_entropy():
    logits, maps = problem(4)
    close(jax.jit(lambda *batch: focal(*batch, 0.0, WEIGHTS))(logits, maps), cross_entropy_of_loops(logits, maps, WEIGHTS))
    close(jax.jit(lambda *batch: focal(*batch, 1.5))(logits, maps), cross_entropy_of_loops(logits, maps, gamma=1.5))


def test_lovasz_coefficients_of_many_pixels_are_not_rounded_away():
    # One pixel is of class 0, and has the smallest error. So that of rank n has the coefficient 1 - 1/(n + 1) - (1 - 1/n),
    # which rounding IoU to float32 would change by up to 20 %. For class 1, pixels of that class have the first ranks.
    count = 2000
    logits, maps = np.zeros((1, 1, count, 2), np.float32), np.ones((1, 1, count), np.uint8)
    logits[0, 0, :, 0] = np.linspace(3, 1, count)
    maps[0, 0, -1] = 0
    logits[0, 0, -1, 0] = -0.5  # an error of 0.62; the others are at least 0.73
    p, n = pixels(logits, maps)[0][:-1, 0], np.arange(1, count)
    expected = p * (1 - p) * (1 / (n * (n + 1)) + 1 / (count - 1)) / 2
    found = jax.jit(jax.grad(lovasz_softmax))(logits, maps)[0, 0, :-1, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ── Sums of losses ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_sum_of_losses_has_their_weights():
    logits, maps = problem(4)
    weights = {"cross_entropy": 1, "focal": 0.25, "dice": 0.5, "lovasz_softmax": 2.0}
    assert set(weights) == set(LOSSES)
    expected = (
        cross_entropy_of_loops(logits, maps, WEIGHTS)
        + 0.25 * focal_of_loops(logits, maps, WEIGHTS)
        + 0.5 * dice_of_loops(logits, maps)
        + 2 * lovasz_of_sets(logits, maps)
    )
    close(jax.jit(make_segmentation_loss(weights, WEIGHTS))(logits, maps), expected)
    close(jax.jit(make_segmentation_loss({"dice": 1.0, "focal": 0.0}))(logits, maps), dice_of_loops(logits, maps))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"dcie": 1.0}, r'^loss: no segmentation loss "dcie" \(did you mean "dice"\?\); available: cross_entropy, focal'),
        ({"dice": -1.0, "focal": 1.0}, r"^loss\.dice: the weight -1.0 should be finite and at least 0"),
        ({"dice": float("nan")}, r"^loss\.dice: the weight nan should be finite"),
        ({"dice": 0.0}, r"^loss: \{'dice': 0.0\} should have at least one weight above 0"),
        ({}, r"^loss: \{\} should have at least one weight"),
        ({"dice": 1.0, "focal": 0.0}, r"^loss: class weights have no effect on dice; leave them out"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        make_segmentation_loss(weights, WEIGHTS)


def test_median_frequency_weights_are_those_of_a_small_example():
    # Pixels of classes a, b, c, d: f(a) = 90 / 200, f(b) = 80 / 200, f(c) = 30 / 100; d never occurs.
    counts = np.array([[60, 40, 0, 0], [30, 40, 30, 0], [0, 0, 0, 0]])
    found = median_frequency_weights(counts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.4 / 0.45, 1, 0.4 / 0.3, 0], rtol=1e-6)


def test_median_frequency_weights_do_not_overflow_and_need_pixels():
    counts = np.full((3, 2), 2**31 - 1, np.int32)  # the sum exceeds int32
    np.testing.assert_allclose(median_frequency_weights(counts), [1, 1])
    with pytest.raises(ValueError, match="all pixels are void"):
        median_frequency_weights(np.zeros((3, 2), np.int64))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.command import load_config
from jaxcnn.config import from_json, to_json
from jaxcnn.errors import UserError
from jaxcnn.tasks.losses import (
    LOSSES,
    balanced_class_weights,
    correct,
    given_class_weights,
    kind_of,
    make_loss,
    num_outputs,
)
from jaxcnn.tasks.settings import LossSettings

RNG = np.random.default_rng(0)
N, K = 11, 4
LOGITS = (3 * RNG.standard_normal((N, K))).astype(np.float32)
LABELS = RNG.integers(0, K, N).astype(np.int32)
ONE = LOGITS[:, :1]
TWO_CLASSES = RNG.integers(0, 2, N).astype(np.int32)
SEVERAL = RNG.integers(0, 2, (N, K)).astype(np.int32)
SOFTMAX, SIGMOID = "softmax_cross_entropy", "sigmoid_binary_cross_entropy"


def settings(name, **changes):
    return LossSettings(name, **changes)


def log_softmax(logits):
    return logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))


def binary_cross_entropies(logits, targets):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(targets * np.log(p) + (1 - targets) * np.log(1 - p))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5)


# ── Softmax ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_softmax_cross_entropy_is_the_mean_of_minus_log_probability():
    losses = -log_softmax(LOGITS)[np.arange(N), LABELS]
    close(LOSSES[SOFTMAX](LOGITS, LABELS), losses)
    close(jax.jit(make_loss(settings(SOFTMAX), "multiclass", K))(LOGITS, LABELS), losses.mean())


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_spreads_its_share_evenly_over_all_classes(smoothing):
    targets = np.full((N, K), smoothing / K)
    targets[np.arange(N), LABELS] += 1 - smoothing
    expected = -(targets * log_softmax(LOGITS)).sum(axis=1).mean()
    config = settings(SOFTMAX, label_smoothing=smoothing)
    close(make_loss(config, "multiclass", K)(LOGITS, LABELS), expected)


WEIGHTS = (0.5, 2.0, 0.0, 1.5)
NAMES = ("10", "cat", "horse", "dog")


def test_class_weights_divide_by_the_sum_of_the_weights_as_pytorch_does():
    # torch.nn.CrossEntropyLoss: Σ -w[y] log p[y] / Σ w[y]
    weights = np.array(WEIGHTS)[LABELS]
    expected = (weights * -log_softmax(LOGITS)[np.arange(N), LABELS]).sum() / weights.sum()
    loss = make_loss(settings(SOFTMAX, class_weights=WEIGHTS), "multiclass", K)
    close(jax.jit(loss)(LOGITS, LABELS), expected)
    close(make_loss(settings(SOFTMAX, class_weights=(3.0,) * K), "multiclass", K)(LOGITS, LABELS),
          make_loss(settings(SOFTMAX), "multiclass", K)(LOGITS, LABELS))  # fmt: skip


def test_class_weights_weigh_the_smoothed_loss_of_an_example_by_its_own_class():
    targets = np.full((N, K), 0.1 / K)
    targets[np.arange(N), LABELS] += 0.9
    weights = np.array(WEIGHTS)[LABELS]
    expected = (weights * -(targets * log_softmax(LOGITS)).sum(axis=1)).sum() / weights.sum()
    config = settings(SOFTMAX, class_weights=WEIGHTS, label_smoothing=0.1)
    close(make_loss(config, "multiclass", K)(LOGITS, LABELS), expected)


def test_batch_of_examples_with_weight_0_has_loss_0_and_no_nan():
    loss = make_loss(settings(SOFTMAX, class_weights=WEIGHTS), "multiclass", K)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(LOGITS[:2]), jnp.array([2, 2]))
    assert value == 0
    assert not gradient.any()


# ── Sigmoid ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_classes_have_one_logit_which_is_that_of_class_1():
    losses = binary_cross_entropies(ONE[:, 0], TWO_CLASSES)
    close(LOSSES[SIGMOID](ONE, TWO_CLASSES), losses)
    close(make_loss(settings(SIGMOID), "binary", 2)(ONE, TWO_CLASSES), losses.mean())


def test_several_labels_are_averaged_over_the_labels():
    close(LOSSES[SIGMOID](LOGITS, SEVERAL), binary_cross_entropies(LOGITS, SEVERAL).mean(axis=1))


def test_one_class_against_the_rest_is_a_binary_problem_for_each_class():
    expected = binary_cross_entropies(LOGITS, np.eye(K)[LABELS]).mean()
    close(make_loss(settings(SIGMOID), "multiclass", K)(LOGITS, LABELS), expected)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one against the rest", "several labels"])
def test_smoothing_draws_binary_targets_towards_one_half(labels):
    targets = (labels if labels.ndim == 2 else np.eye(K)[labels]) * 0.8 + 0.1
    task = "multilabel" if labels.ndim == 2 else "multiclass"
    loss = make_loss(settings(SIGMOID, label_smoothing=0.2), task, K)
    close(loss(LOGITS, labels), binary_cross_entropies(LOGITS, targets).mean())


def test_class_weights_apply_to_two_classes_too():
    weights = np.array([0.25, 3.0])[TWO_CLASSES]
    expected = (weights * binary_cross_entropies(ONE[:, 0], TWO_CLASSES)).sum() / weights.sum()
    close(make_loss(settings(SIGMOID, class_weights=(0.25, 3.0)), "binary", 2)(ONE, TWO_CLASSES), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("name", "shape"), [(SOFTMAX, (2, K)), (SIGMOID, (2, K)), (SIGMOID, (2, 1))])
def test_large_logits_give_finite_losses_and_gradients(name, shape, gamma):
    logits = jnp.full(shape, 1e4).at[0, 0].set(-1e4)
    config = settings(name, focal_gamma=gamma)
    loss = make_loss(config, "binary" if shape[1] == 1 else "multiclass", max(shape[1], 2))
    value, gradient = jax.value_and_grad(loss)(logits, jnp.array([0, 1]))
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


# ── Mixed examples ──────────────────────────────────────────────────────────────────────────────────────────────────

SHARES = RNG.dirichlet(np.ones(K), N).astype(np.float32)  # of four classes
SHARE = np.linspace(0, 1, N, dtype=np.float32)[:, None]  # of class 1 of two


def focal(losses, gamma):
    return (1 - np.exp(-losses)) ** gamma * losses


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [(), (0.25, 3.0)])
def test_mixture_of_two_classes_has_the_mixture_of_their_targets_and_weights(weights, smoothing, gamma):
    losses = binary_cross_entropies(ONE, (1 - smoothing) * SHARE + smoothing / 2)[:, 0]
    weight = ((1 - SHARE) * 0.25 + SHARE * 3.0)[:, 0] if weights else np.ones(N)
    config = settings(SIGMOID, class_weights=weights, label_smoothing=smoothing, focal_gamma=gamma)
    expected = (focal(losses, gamma) * weight).sum() / weight.sum()
    close(jax.jit(make_loss(config, "binary", 2))(ONE, SHARE), expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("name", [SOFTMAX, SIGMOID])
def test_mixture_of_many_classes_has_the_mixture_of_their_targets_and_weights(name, gamma):
    if name == SOFTMAX:
        losses = focal(-(SHARES * log_softmax(LOGITS)).sum(axis=1), gamma)
    else:
        losses = focal(binary_cross_entropies(LOGITS, SHARES), gamma).mean(axis=1)
    weight = SHARES @ np.array(WEIGHTS)
    config = settings(name, class_weights=WEIGHTS, focal_gamma=gamma)
    close(jax.jit(make_loss(config, "multiclass", K))(LOGITS, SHARES), (losses * weight).sum() / weight.sum())


def test_balanced_weights_of_two_classes_apply_to_mixtures_too():
    labels = np.array([0] * 9 + [1])
    given = make_loss(settings(SIGMOID, class_weights=(0.2, 1.8)), "binary", 2)
    balanced = make_loss(settings(SIGMOID, balance="inverse"), "binary", 2, labels)
    close(balanced(ONE, SHARE), given(ONE, SHARE))


def test_label_of_a_mixture_is_its_largest_share():
    right = (ONE > 0) == (SHARE > 0.5)
    assert SHARE[N // 2] == 0.5, "the tie, which is negative"
    np.testing.assert_array_equal(correct(ONE, SHARE, "binary"), right[:, 0])
    several = SEVERAL * np.float32(0.9) + SEVERAL[::-1] * np.float32(0.1)
    np.testing.assert_allclose(correct(LOGITS, several, "multilabel"), ((LOGITS > 0) == SEVERAL).mean(axis=1))
    np.testing.assert_array_equal(correct(LOGITS, SHARES, "multiclass"), LOGITS.argmax(axis=1) == SHARES.argmax(axis=1))


def test_evaluation_uses_neither_smoothing_nor_class_weights():
    config = settings(SOFTMAX, label_smoothing=0.5, class_weights=WEIGHTS)
    close(LOSSES[config.name](LOGITS, LABELS), -log_softmax(LOGITS)[np.arange(N), LABELS])


# ── Kinds of labels ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def kind(labels, num_classes, loss):
    return kind_of("labels" if labels.ndim == 2 else "label", num_classes, loss, labels)


@pytest.mark.parametrize(
    ("labels", "num_classes", "loss", "task", "outputs"),
    [
        (LABELS, K, SOFTMAX, "multiclass", K),
        (LABELS, K, SIGMOID, "multiclass", K),
        (TWO_CLASSES, 2, SOFTMAX, "multiclass", 2),
        (TWO_CLASSES, 2, SIGMOID, "binary", 1),
        (SEVERAL, K, SIGMOID, "multilabel", K),
        (SEVERAL[:, :2], 2, SIGMOID, "multilabel", 2),
    ],
)
def test_labels_and_loss_determine_the_kind(labels, num_classes, loss, task, outputs):
    assert kind(labels, num_classes, loss) == task
    assert num_outputs(task, num_classes) == outputs


def test_several_labels_are_refused_by_softmax():
    with pytest.raises(UserError, match=r"loss.name: .* use sigmoid_binary_cross_entropy$"):
        kind(SEVERAL, K, SOFTMAX)
    with pytest.raises(UserError, match=r"if these are one-hot rows, store labels.argmax\(axis=1\)$"):
        kind(np.eye(K, dtype=np.int32)[LABELS], K, SOFTMAX)


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        ("multiclass", (1.0, 2.0), "2 weights do not fit 4 classes"),
        ("multilabel", (1.0,) * K, "4 weights do not fit several labels per image"),
        ("multiclass", (1.0, 1.0, 1.0, -1.0), "should be finite, at least 0"),
        ("multiclass", (0.0,) * K, "not all 0"),
        ("multiclass", (1.0, 1.0, 1.0, float("nan")), "should be finite"),
        ("multiclass", (1.0, 1.0, 1.0, None), "should be numbers"),
        ("multiclass", ("cat=1", "dog=2", "horse=1"), 'no weight for the class "10"; give one for each class'),
        ("multiclass", ("cat=1", "dog=2", "hors=1", "10=3"), r'no class "hors" \(did you mean "horse"\?\)'),
        ("multiclass", ("cat=1", "dog=2", "cat=1", "10=3"), 'two weights for the class "cat"'),
        ("multiclass", ("cat=1", "dog=much", "horse=1", "10=3"), r"\('3', '1', '1', 'much'\) should be numbers"),
        ("multiclass", ("cat=1", 2.0, "horse=1", "10=3"), '2.0; write all of them as "NAME=WEIGHT", or all as numbers'),
        ("multiclass", ("cat", "dog", "horse", "10"), "'cat'; write all of them as"),
    ],
)
def test_class_weights_that_do_not_fit_are_refused(task, weights, message):
    with pytest.raises(UserError, match=f"loss.class_weights: .*{message}"):
        make_loss(settings(SIGMOID, class_weights=weights), task, K, class_names=NAMES)


def test_class_weights_may_name_the_classes_in_any_order(tmp_path):
    (tmp_path / "plain.py").write_text("from jaxcnn.config import default_config as get_config")
    config = load_config(str(tmp_path / "plain.py"), ["--config.loss.class_weights=dog=1.5,10=0.5,cat=2,horse=0"])
    named = make_loss(from_json(to_json(config)).loss, "multiclass", K, class_names=NAMES)
    ordered = make_loss(settings(SOFTMAX, class_weights=(0.5, 2, 0, 1.5)), "multiclass", K)
    close(named(LOGITS, LABELS), ordered(LOGITS, LABELS))
    assert given_class_weights(("a=b=1", "c, d=2"), ("a=b", "c, d")) == (1.0, 2.0)


def test_prediction_is_the_largest_logit_or_its_sign():
    np.testing.assert_array_equal(correct(LOGITS, LABELS, "multiclass"), LOGITS.argmax(axis=1) == LABELS)
    np.testing.assert_array_equal(correct(ONE, TWO_CLASSES, "binary"), (ONE[:, 0] > 0) == TWO_CLASSES)
    np.testing.assert_allclose(correct(LOGITS, SEVERAL, "multilabel"), ((LOGITS > 0) == SEVERAL).mean(axis=1))


def test_focal_loss_of_a_sigmoid_is_that_of_its_paper_for_each_label():
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    p = np.where(SEVERAL, p, 1 - p)
    expected = (-((1 - p) ** 1.5) * np.log(p)).mean()
    close(make_loss(settings(SIGMOID, focal_gamma=1.5), "multilabel", K)(LOGITS, SEVERAL), expected)


def test_focal_loss_is_that_of_its_paper():
    p = np.exp(LOGITS - LOGITS.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True))[np.arange(len(LABELS)), LABELS]
    close(make_loss(settings(SOFTMAX, focal_gamma=2.0), "multiclass", K)(LOGITS, LABELS), (-((1 - p) ** 2) * np.log(p)).mean())


def test_class_weights_follow_the_counts_of_the_training_set():
    labels = np.repeat(np.arange(3), (90, 9, 1))
    inverse = np.array([1 / 90, 1 / 9, 1])
    close(np.array(balanced_class_weights(labels, "abc", "inverse")), inverse / inverse.mean())
    effective = 0.001 / (1 - 0.999 ** np.array([90, 9, 1]))
    close(np.array(balanced_class_weights(labels, "abc", "effective")), effective / effective.mean())
    weighted = make_loss(settings(SOFTMAX, balance="inverse"), "multiclass", K, np.arange(K).repeat(np.arange(1, K + 1)))
    given = make_loss(settings(SOFTMAX, class_weights=tuple(1 / n for n in range(1, K + 1))), "multiclass", K)
    close(weighted(LOGITS, LABELS), given(LOGITS, LABELS))
    with pytest.raises(UserError, match='no example of the class "horse"'):
        balanced_class_weights(np.array([0, 1, 3]), ("10", "cat", "horse", "dog"), "inverse")


def test_class_weights_come_from_counts_or_are_given():
    both = settings(SOFTMAX, balance="inverse", class_weights=WEIGHTS)
    with pytest.raises(UserError, match=r"^loss\.class_weights: .* has no effect with loss.balance=inverse"):
        make_loss(both, "multiclass", K, LABELS)
    for kind, labels in (("multilabel", SEVERAL), ("multiclass", None)):
        with pytest.raises(UserError, match=r"^loss\.balance: expected the labels of the training set, one per image"):
            make_loss(settings(SOFTMAX, balance="inverse"), kind, K, labels)

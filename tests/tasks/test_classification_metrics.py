import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from jaxcnn.tasks import classification_metrics as metrics


def random_problem(num_examples=500, num_classes=7):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num_examples)
    logits = rng.standard_normal((num_examples, num_classes)).astype(np.float32)
    logits[np.arange(num_examples), labels] += 1
    return logits, labels


def test_probabilities_are_the_softmax():
    logits, _ = random_problem()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = metrics.probabilities(logits, "multiclass")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_large_logits_do_not_overflow():
    np.testing.assert_array_equal(metrics.probabilities(np.array([[1e5, 0.0], [-1e5, 0.0]]), "multiclass"), np.eye(2))
    np.testing.assert_array_equal(metrics.probabilities(np.array([[1e5], [-1e5]]), "binary"), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(metrics.probabilities(np.array([[1e5, -1e5]]), "multilabel"), [[1, 0]])


def test_binary_probability_of_the_unlikely_class_is_not_rounded_away():
    of_0, of_1 = metrics.probabilities(np.array([[40.0]]), "binary")[0]
    assert of_0 == pytest.approx(np.exp(-40), rel=1e-5)
    assert of_1 == 1


def test_binary_probability_is_the_two_class_softmax_of_zero_and_the_logit():
    logits = np.linspace(-5, 5, 11)[:, None]
    two = metrics.probabilities(np.concatenate([np.zeros_like(logits), logits], axis=1), "multiclass")
    np.testing.assert_allclose(metrics.probabilities(logits, "binary"), two, rtol=1e-6)


def test_accuracy_of_small_examples():
    logits = np.array([[1.0, 2, 0], [3, 1, 2], [0, 0, 1], [5, 4, 3]])
    assert metrics.accuracy(logits, np.array([1, 0, 2, 2]), "multiclass") == 0.75
    assert metrics.accuracy(np.array([[0.1], [-0.1], [0.0], [9.0]]), np.array([1, 0, 0, 0]), "binary") == 0.75
    decisions = np.array([[1.0, -1], [1, 1], [-1, -1]])
    assert metrics.accuracy(decisions, np.array([[1, 0], [0, 1], [0, 1]]), "multilabel") == pytest.approx(4 / 6)


def test_nan_counts_as_wrong():
    logits = np.array([[np.nan, 0.0], [np.nan, np.nan], [1.0, 0.0]])
    labels = np.array([0, 0, 0])
    assert metrics.accuracy(logits, labels, "multiclass") == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(logits, labels, 2) == pytest.approx(1 / 3)
    assert metrics.accuracy(logits[:, :1], np.array([0, 0, 1]), "binary") == pytest.approx(1 / 3)
    assert metrics.accuracy(logits, np.array([[0, 0], [0, 0], [1, 0]]), "multilabel") == pytest.approx(1 / 3)


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_accuracy_equals_that_of_sklearn(k):
    logits, labels = random_problem()
    # sklearn warns that the result for k = K is always 1, so it is not called for that.
    expected = top_k_accuracy_score(labels, logits, k=k, labels=range(7)) if k < 7 else 1.0
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(expected)


def test_top_1_is_the_accuracy():
    logits, labels = random_problem()
    assert metrics.top_k_accuracy(logits, labels, 1) == metrics.accuracy(logits, labels, "multiclass")


def test_equal_logits_for_all_classes_count_as_wrong():
    labels = np.arange(10)
    assert metrics.top_k_accuracy(np.zeros((10, 10)), labels, 5) == 0
    assert metrics.accuracy(np.zeros((10, 10)), labels, "multiclass") == 0.1  # argmax returns class 0


def test_a_tie_at_the_edge_of_the_top_k_counts_against_the_network():
    logits = np.array([[3.0, 2, 2, 1]])
    assert metrics.top_k_accuracy(logits, np.array([1]), 2) == 0
    assert metrics.top_k_accuracy(logits, np.array([1]), 3) == 1


def test_per_class_metrics_of_a_small_example():
    predicted = np.array([0, 0, 1, 1, 1])
    rows = metrics.per_class(np.eye(3)[predicted], np.array([0, 1, 1, 1, 0]), "multiclass", ["a", "b", "c"])
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert [row["precision"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 0])
    assert [row["recall"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 0])
    assert [row["f1"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 0])
    assert [row["support"] for row in rows] == [2, 3, 0]


def test_per_class_of_multilabel_counts_each_label_alone():
    labels = np.array([[1, 1], [1, 0], [0, 0]])
    rows = metrics.per_class(np.array([[1.0, -1], [-1, -1], [1, -1]]), labels, "multilabel", ["a", "b"])
    assert [row["precision"] for row in rows] == [0.5, 0]
    assert [row["recall"] for row in rows] == [0.5, 0]
    assert [row["support"] for row in rows] == [2, 1]


def test_per_class_refuses_names_of_another_number_of_classes():
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        metrics.per_class(np.eye(3), np.array([0, 1, 2]), "multiclass", ["a", "b"])


def test_confusion_matrix_counts_labels_in_rows():
    logits, labels = random_problem()
    expected = np.zeros((7, 7), int)
    np.add.at(expected, (labels, logits.argmax(axis=1)), 1)
    found = metrics.confusion_matrix(logits, labels, "multiclass")
    np.testing.assert_array_equal(found, expected)
    assert np.trace(found) / found.sum() == metrics.accuracy(logits, labels, "multiclass")


def test_confusion_matrix_has_all_classes_if_labels_have_only_one():
    np.testing.assert_array_equal(metrics.confusion_matrix(np.eye(3), np.array([0, 0, 0]), "multiclass")[0], [1, 1, 1])
    np.testing.assert_array_equal(metrics.confusion_matrix(np.ones((4, 1)), np.ones(4, int), "binary"), [[0, 0], [0, 4]])


def test_bfloat16_logits_are_accepted():
    logits, labels = random_problem()
    half = logits.astype(ml_dtypes.bfloat16)
    assert metrics.probabilities(half, "multiclass").dtype == np.float32
    assert metrics.accuracy(half, labels, "multiclass") == np.mean(half.astype(np.float32).argmax(axis=1) == labels)


@pytest.mark.parametrize(("shape", "task"), [((5,), "multiclass"), ((5, 2), "binary"), ((5, 2), "multi-class")])
def test_wrong_shapes_and_tasks_are_refused(shape, task):
    with pytest.raises(ValueError, match=task):
        metrics.predictions(np.zeros(shape), task)

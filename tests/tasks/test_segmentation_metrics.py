import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn import metrics as sklearn_metrics

from jaxcnn.data.fields import VOID
from jaxcnn.tasks.segmentation_metrics import class_rows, confusion_counts, iou_intervals, segmentation_metrics

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/segmentation_metrics.json").read_text(encoding="utf-8"))


def problem(num_classes, images=8, absent=None):
    """Random predicted classes and maps (N, 4, 5), of which a quarter is void; `absent` is neither predicted nor true."""
    rng = np.random.default_rng(0)
    classes = [c for c in range(num_classes) if c != absent]
    maps = rng.choice(classes, (images, 4, 5)).astype(np.uint8)
    predicted = np.where(rng.random(maps.shape) < 0.5, maps, rng.choice(classes, maps.shape)).astype(np.int32)
    maps[rng.random(maps.shape) < 0.25] = VOID
    return predicted, maps


def counts_of_sklearn(predicted, maps, num_classes):
    valid = maps != VOID
    return sklearn_metrics.confusion_matrix(maps[valid], predicted[valid], labels=range(num_classes))


def counts_per_image(predicted, maps, num_classes):
    return np.array([counts_of_sklearn(*image, num_classes) for image in zip(predicted, maps, strict=True)])


# ── Counts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
@pytest.mark.parametrize("num_classes", [2, 11])
def test_counts_per_image_are_those_of_sklearn(num_classes, dtype):
    predicted, maps = problem(num_classes)
    found = jax.jit(confusion_counts, static_argnums=2)(predicted.astype(dtype), maps, num_classes)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, counts_per_image(predicted, maps, num_classes))


def test_void_images_have_no_counts_and_255_classes_fit():
    predicted, maps = problem(3)
    maps[1] = VOID
    maps[0, 0, 0], predicted[0, 0, 0] = 254, 253
    found = np.asarray(jax.jit(confusion_counts, static_argnums=2)(predicted[:2], maps[:2], 255))
    assert not found[1].any()
    assert found[0].sum() == (maps[0] != VOID).sum()
    assert found[0, 254, 253] == 1


def test_devices_count_their_images_without_communication():
    predicted, maps = problem(3)
    by_image = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    batch = jax.device_put((predicted, maps), by_image)
    program = jax.jit(confusion_counts, static_argnums=2).lower(*batch, 3).compile()
    assert not re.search("all-reduce|all-gather", program.as_text())
    np.testing.assert_array_equal(program(*batch), counts_per_image(predicted, maps, 3))


# ── Metrics ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("num_classes", [2, 11])
def test_metrics_are_those_of_sklearn(num_classes):
    predicted, maps = problem(num_classes)
    valid = maps != VOID
    true, guessed = maps[valid], predicted[valid]
    counts = counts_of_sklearn(predicted, maps, num_classes)
    expected = {
        "mean_iou": sklearn_metrics.jaccard_score(true, guessed, average="macro"),
        "mean_dice": sklearn_metrics.f1_score(true, guessed, average="macro"),
        "pixel_accuracy": sklearn_metrics.accuracy_score(true, guessed),
        "class_accuracy": sklearn_metrics.balanced_accuracy_score(true, guessed),
    }
    assert segmentation_metrics(counts) == pytest.approx(expected)
    rows = class_rows(counts, [f"class {c}" for c in range(num_classes)])
    precision, recall, f1, pixels = sklearn_metrics.precision_recall_fscore_support(true, guessed)
    for metric, values in {
        "iou": sklearn_metrics.jaccard_score(true, guessed, average=None),
        "dice": f1,
        "precision": precision,
        "recall": recall,
        "pixels": pixels,
    }.items():
        assert [row[metric] for row in rows] == pytest.approx(list(values))
    assert [row["name"] for row in rows] == [f"class {c}" for c in range(num_classes)]


def pixels(text):
    """Returns the map (H, W) uint8 of rows of letters, as stored in golden/segmentation_metrics.json."""
    return np.array([[VOID if letter == "." else ord(letter) - ord("a") for letter in row] for row in text], np.uint8)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['num_classes']}-{len(case['maps'])}")
def test_metrics_are_those_of_torchmetrics_and_counts_those_of_scikit_image(case):
    maps, predicted = (np.array([pixels(image) for image in case[name]]) for name in ("maps", "predicted"))
    counts = np.asarray(confusion_counts(predicted, maps, case["num_classes"])).sum(axis=0)
    np.testing.assert_array_equal(counts, case["contingency_table"])
    expected, found = case["torchmetrics"], segmentation_metrics(counts)
    rows = class_rows(counts, [str(c) for c in range(case["num_classes"])])
    for metric in ("iou", "dice", "precision", "recall"):  # torchmetrics has 0 where ours are NaN
        np.testing.assert_allclose(np.nan_to_num([row[metric] for row in rows]), expected[metric], rtol=1e-6, err_msg=metric)
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"], rel=1e-6)
    assert found["mean_dice"] == pytest.approx(expected["mean_dice"], rel=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(expected["micro_accuracy"], rel=1e-6)
    # The macro accuracy of torchmetrics is a mean over classes that are true or predicted; ours is over those that are true.
    true, occurring = (counts.sum(axis=1) > 0).sum(), (counts.sum(axis=1) + counts.sum(axis=0) > 0).sum()
    assert found["class_accuracy"] == pytest.approx(expected["macro_accuracy"] * occurring / true, rel=1e-6)


def test_class_that_is_only_predicted_counts_as_0_and_one_that_never_occurs_is_left_out():
    # Class 0 has 8 pixels, of which 2 are predicted as class 1. Class 2 has 2 pixels, predicted as class 0. No class 3.
    counts = np.array([[6, 2, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    found = segmentation_metrics(counts)
    assert found == pytest.approx(
        {"mean_iou": 0.6 / 3, "mean_dice": 0.75 / 3, "pixel_accuracy": 0.6, "class_accuracy": 0.75 / 2}
    )
    nan = np.nan
    expected = {
        "iou": [0.6, 0, 0, nan],
        "dice": [0.75, 0, 0, nan],
        "precision": [0.75, 0, nan, nan],
        "recall": [0.75, nan, 0, nan],
        "pixels": [8, 0, 2, 0],
    }
    rows = class_rows(counts, "abcd")
    for metric, values in expected.items():
        np.testing.assert_allclose([row[metric] for row in rows], values, err_msg=metric)


def test_metrics_without_pixels_are_nan():
    assert all(np.isnan(list(segmentation_metrics(np.zeros((3, 3), np.int32)).values())))


def test_counts_that_sum_to_more_than_int32_are_exact():
    counts = np.array([[2**31 - 1, 2**31 - 1], [0, 2**31 - 1]], np.int32)
    assert segmentation_metrics(counts)["pixel_accuracy"] == 2 / 3
    assert class_rows(counts, "ab")[0]["pixels"] == 2**32 - 2


def test_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="1 class names for 2 classes"):
        class_rows(np.eye(2), ["road"])


# ── Intervals ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_intervals_are_percentiles_over_samples_of_the_images():
    # Independent of the implementation: other random numbers, and the metrics of one sample after the other.
    counts = counts_per_image(*problem(3, images=30), 3)
    rng = np.random.default_rng(1)
    samples = [counts[rng.integers(0, 30, 30)].sum(axis=0) for _ in range(2000)]
    means = [segmentation_metrics(sample)["mean_iou"] for sample in samples]
    ious = [[row["iou"] for row in class_rows(sample, "abc")] for sample in samples]
    found = iou_intervals(counts, seed=0, repeats=2000)
    width = found.mean[1] - found.mean[0]
    np.testing.assert_allclose(found.mean, np.percentile(means, [2.5, 97.5]), atol=0.1 * width)
    np.testing.assert_allclose(found.classes, np.percentile(ious, [2.5, 97.5], axis=0).T, atol=0.2 * width)
    total = segmentation_metrics(counts.sum(axis=0))["mean_iou"]
    assert found.mean[0] < total < found.mean[1]


def test_intervals_depend_on_the_seed_only():
    counts = counts_per_image(*problem(3), 3)
    first, again, other = (iou_intervals(counts, seed) for seed in (0, 0, 1))
    assert first.mean == again.mean != other.mean
    np.testing.assert_array_equal(first.classes, again.classes)


def test_intervals_of_equal_images_have_width_0_and_of_absent_classes_are_nan():
    counts = np.repeat(counts_per_image(*problem(3, images=1, absent=1), 3), 5, axis=0)
    rows = class_rows(counts[0], "abc")
    found = iou_intervals(counts, seed=0, repeats=10)
    np.testing.assert_allclose(found.classes, [[row["iou"]] * 2 for row in rows])
    assert np.isnan(found.classes[1]).all()
    np.testing.assert_allclose(found.mean, [segmentation_metrics(counts[0])["mean_iou"]] * 2)


def test_samples_without_a_class_are_left_out_of_its_interval():
    counts = np.zeros((3, 2, 2), np.int32)
    counts[:, 0, 0] = 1
    counts[0, 1] = 1, 3  # only this image, which a sample has 0 to 3 times, contains class 1: an IoU of 3 / 4
    found = iou_intervals(counts, seed=0)
    np.testing.assert_allclose(found.classes[1], [0.75, 0.75])
    assert found.mean[1] == 1, "the samples without class 1"


def test_intervals_without_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        iou_intervals(np.zeros((0, 2, 2)), seed=0)

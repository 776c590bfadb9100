"""Unreadable images are replaced in training and left out of evaluation."""

import jax
import numpy as np
import pytest
from common.broken_source import Broken

from jaxcnn.data import BalancedOrder, Once, Order, Reading, make_reader
from jaxcnn.errors import UserError

SEED = 5
LABELS = np.repeat(np.arange(3), (30, 20, 10)).astype(np.int32)
SOURCE = Broken(LABELS, frozenset(range(5, 25)) | {59})  # 20 consecutive images, and the last


def read(source, order, counts=(1,), *, resident, start=0, batch=30, threads=2, workers=0):
    """Returns the columns of all batches, concatenated, and the names of the skipped images."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    reading = Reading("on" if resident else "off", threads, workers, skip=True)
    batches = [jax.tree.map(np.asarray, found) for found in make_reader(source, mesh, reading)(order, start, batch, counts)]
    flat = {name: np.concatenate([found[name].reshape(-1, *found[name].shape[2:]) for found in batches]) for name in batches[0]}
    return flat, reading.skipped


BOTH = pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])


@pytest.mark.parametrize("order", [Order(60, SEED), BalancedOrder(LABELS, SEED)], ids=["order", "balanced"])
@BOTH
def test_classes_keep_their_shares_and_the_readable_images_of_a_class_are_equally_likely(resident, order):
    epochs = 60
    found, _ = read(SOURCE, order, [1] * (2 * epochs), resident=resident)
    ordered = order[np.arange(60 * epochs)]
    np.testing.assert_array_equal(found["label"], LABELS[ordered])
    np.testing.assert_array_equal(found["image"].ravel(), found["index"])
    np.testing.assert_array_equal(LABELS[found["index"]], found["label"])
    readable = ~np.isin(ordered, list(SOURCE.broken))
    np.testing.assert_array_equal(found["index"][readable], ordered[readable])
    assert found["mask"].all()
    for label in range(3):
        readable = [i for i in np.flatnonzero(label == LABELS).tolist() if i not in SOURCE.broken]
        times = np.bincount(found["index"], minlength=60)[readable]
        expected = (found["label"] == label).sum() / len(readable)
        assert np.abs(times - expected).max() < 5 * expected**0.5, (label, times)  # five standard deviations of a count


def test_batches_do_not_depend_on_reader_threads_or_first_step():
    order = Order(60, SEED)
    expected, skipped = read(SOURCE, order, [1, 2, 3], resident=True)
    assert skipped == {SOURCE.name(index) for index in SOURCE.broken}
    for changes in ({"resident": False, "threads": 0}, {"resident": False, "threads": 8}):
        found, found_skipped = read(SOURCE, order, [3, 2, 1], **changes)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert found_skipped == skipped
    for resident in (True, False):
        tail, _ = read(SOURCE, order, [2], resident=resident, start=120)
        jax.tree.map(lambda found, complete: np.testing.assert_array_equal(found, complete[120:]), tail, expected)


@BOTH
def test_repeats_of_an_image_have_the_same_replacement(resident):
    found, _ = read(SOURCE, Order(60, SEED, repeats=3), [4], resident=resident)
    assert (found["index"].reshape(-1, 3) == found["index"][::3, None]).all()


SEVERAL = np.array([[1, 0, 0]] * 4 + [[1, 1, 0]] * 3 + [[0, 0, 1]] * 3 + [[0, 0, 0]] * 2, np.int32)


@BOTH
def test_with_several_labels_per_image_those_with_the_same_labels_are_tried_first(resident):
    source, order = Broken(SEVERAL, frozenset({0, 1, 7, 8})), Order(12, SEED)
    found, _ = read(source, order, [5], resident=resident, batch=12)
    np.testing.assert_array_equal(found["label"], SEVERAL[order[np.arange(60)]])
    source = Broken(SEVERAL, frozenset({10, 11}))  # the images without any label
    found, _ = read(source, order, [5], resident=resident, batch=12)
    replaced = np.isin(order[np.arange(60)], [10, 11])
    assert len(set(found["index"][replaced])) > 3
    assert not np.isin(found["index"], [10, 11]).any()


@BOTH
@pytest.mark.parametrize(
    ("labels", "broken"),
    [
        (LABELS, range(30, 50)),
        (LABELS, {*range(10), *range(50, 60)}),
        (SEVERAL, {4, 5, 6}),
        (SEVERAL, range(7)),
        (LABELS[:51], {50}),
    ],
)
def test_unreadable_class_stops_training_and_is_left_out_of_evaluation(labels, broken, resident):
    source = Broken(labels, frozenset(broken))
    with pytest.raises(UserError, match=r"^image \d+: broken; nor could any other image of this class be read; repair"):
        read(source, Order(len(labels), SEED), [2], resident=resident)
    found, skipped = read(source, Once(len(labels)), [3], resident=resident)
    assert found["mask"].sum() == len(labels) - len(broken)
    assert len(skipped) == len(broken)


@BOTH
def test_unreadable_split_stops_evaluation(resident):
    with pytest.raises(UserError, match=r"^image 0: broken; nor could any other image of this data set be read$"):
        read(Broken(LABELS, frozenset(range(60))), Once(60), [1, 1], resident=resident)


def test_warning_counts_all_skipped_images_and_names_three():
    assert Reading().skipped_line() == ""
    assert Reading(skipped={"b"}).skipped_line() == "warning: 1 unreadable image skipped (data.on_error=skip): b"
    many = Reading(skipped={f"{index:04}" for index in range(1234)}).skipped_line(" so far")
    assert many == "warning: 1,234 unreadable images skipped so far (data.on_error=skip): 0000, 0001, 0002 and 1,231 more"

"""Images that can't be read: what stands in for them in training, and what evaluation makes of them."""

import jax
import numpy as np
import pytest
from common.broken_source import Broken

from jaxcnn.data import BalancedOrder, Once, Order, Reading, make_reader
from jaxcnn.errors import UserError

SEED = 5


ONE = np.repeat(np.arange(3), (30, 20, 10)).astype(np.int32)
SOURCE = Broken(ONE, frozenset(range(5, 25)) | {59})  # a run of 20 neighbours, and the last


def read(source, places, counts=(1,), *, resident, start=0, batch=30, threads=2, workers=0):
    """(the batches, one after the other; the names that were skipped)."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    reading = Reading("on" if resident else "off", threads, workers, skip=True)
    batches = [jax.tree.map(np.asarray, found) for found in make_reader(source, mesh, reading)(places, start, batch, counts)]
    flat = {name: np.concatenate([found[name].reshape(-1, *found[name].shape[2:]) for found in batches]) for name in batches[0]}
    return flat, reading.skipped


BOTH = pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])


@pytest.mark.parametrize("order", [Order(60, SEED), BalancedOrder(ONE, SEED)], ids=["order", "balanced"])
@BOTH
def test_classes_keep_their_shares_and_the_readable_images_of_a_class_are_equally_likely(resident, order):
    epochs = 60
    found, _ = read(SOURCE, order, [1] * (2 * epochs), resident=resident)
    asked = order[np.arange(60 * epochs)]
    np.testing.assert_array_equal(found["label"], ONE[asked])
    np.testing.assert_array_equal(found["image"].ravel(), found["index"])
    np.testing.assert_array_equal(ONE[found["index"]], found["label"])
    kept = ~np.isin(asked, list(SOURCE.broken))
    np.testing.assert_array_equal(found["index"][kept], asked[kept])
    assert found["mask"].all()
    for label in range(3):
        readable = [i for i in np.flatnonzero(label == ONE).tolist() if i not in SOURCE.broken]
        times = np.bincount(found["index"], minlength=60)[readable]
        expected = (found["label"] == label).sum() / len(readable)
        assert np.abs(times - expected).max() < 5 * expected**0.5, (label, times)  # five standard deviations of a count


def test_batches_are_the_same_by_both_readers_by_any_number_of_threads_and_from_any_step_on():
    order = Order(60, SEED)
    expected, skipped = read(SOURCE, order, [1, 2, 3], resident=True)
    assert skipped == {SOURCE.name(index) for index in SOURCE.broken}
    for how in ({"resident": False, "threads": 0}, {"resident": False, "threads": 8}):
        found, also = read(SOURCE, order, [3, 2, 1], **how)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert also == skipped
    for resident in (True, False):
        tail, _ = read(SOURCE, order, [2], resident=resident, start=120)
        jax.tree.map(lambda found, whole: np.testing.assert_array_equal(found, whole[120:]), tail, expected)


@BOTH
def test_repeats_of_an_image_have_the_same_replacement(resident):
    found, _ = read(SOURCE, Order(60, SEED, repeats=3), [4], resident=resident)
    assert (found["index"].reshape(-1, 3) == found["index"][::3, None]).all()


SEVERAL = np.array([[1, 0, 0]] * 4 + [[1, 1, 0]] * 3 + [[0, 0, 1]] * 3 + [[0, 0, 0]] * 2, np.int32)


@BOTH
def test_of_several_labels_an_image_those_with_the_same_labels_come_first_and_then_any(resident):
    source, order = Broken(SEVERAL, frozenset({0, 1, 7, 8})), Order(12, SEED)
    found, _ = read(source, order, [5], resident=resident, batch=12)
    np.testing.assert_array_equal(found["label"], SEVERAL[order[np.arange(60)]])
    source = Broken(SEVERAL, frozenset({10, 11}))  # those without any label
    found, _ = read(source, order, [5], resident=resident, batch=12)
    replaced = np.isin(order[np.arange(60)], [10, 11])
    assert len(set(found["index"][replaced])) > 3
    assert not np.isin(found["index"], [10, 11]).any()


@BOTH
@pytest.mark.parametrize(
    ("labels", "broken"),
    [(ONE, range(30, 50)), (ONE, {*range(10), *range(50, 60)}), (SEVERAL, {4, 5, 6}), (SEVERAL, range(7)), (ONE[:51], {50})],
)
def test_class_of_which_nothing_can_be_read_stops_training_and_is_left_out_of_evaluation(labels, broken, resident):
    source = Broken(labels, frozenset(broken))
    with pytest.raises(UserError, match=r"^image \d+: broken; nor could any other image of this class be read; repair"):
        read(source, Order(len(labels), SEED), [2], resident=resident)
    found, skipped = read(source, Once(len(labels)), [3], resident=resident)
    assert found["mask"].sum() == len(labels) - len(broken)
    assert len(skipped) == len(broken)


@BOTH
def test_part_of_which_nothing_can_be_read_stops_evaluation(resident):
    with pytest.raises(UserError, match=r"^image 0: broken; nor could any other image of this data set be read$"):
        read(Broken(ONE, frozenset(range(60))), Once(60), [1, 1], resident=resident)


def test_line_about_what_was_skipped_counts_all_and_names_the_first():
    assert Reading().skipped_line() == ""
    assert Reading(skipped={"b"}).skipped_line() == "warning: 1 unreadable image skipped (data.on_error=skip): b"
    many = Reading(skipped={f"{index:04}" for index in range(1234)}).skipped_line(" so far")
    assert many == "warning: 1,234 unreadable images skipped so far (data.on_error=skip): 0000, 0001, 0002 and 1,231 more"

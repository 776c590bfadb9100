import dataclasses

import jax
import numpy as np
import pytest

from jaxcnn.data import ArraySource, BalancedOrder, Order, Reading, batches_once, make_reader
from jaxcnn.data.decode import Center, look
from jaxcnn.data.sources import Resized, Subset

RNG = np.random.default_rng(0)
SIZE = 21
SOURCE = ArraySource(RNG.integers(0, 256, (SIZE, 4, 3, 2), dtype=np.uint8), np.arange(SIZE, dtype=np.int32))
SEVERAL = ArraySource(SOURCE.images, RNG.integers(0, 2, (SIZE, 5)).astype(np.int32))


def reader(source=SOURCE, *, resident, devices=1, threads=2):
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(axis,), devices=jax.devices()[:devices])
    return make_reader(source, mesh, Reading("on" if resident else "off", threads))


def read(reader, *arguments):
    return [jax.tree.map(np.asarray, batch) for batch in reader(*arguments)]


def flat(batches, name="label"):
    return np.concatenate([batch[name].reshape(-1, *batch[name].shape[2:]) for batch in batches])


# ── Order ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_epoch_is_a_permutation_and_epochs_and_seeds_differ():
    epochs = [Order(SIZE, seed)[np.arange(SIZE) + SIZE * epoch] for seed in (0, 1) for epoch in range(4)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(SIZE))
    assert len(set(map(tuple, epochs))) == len(epochs)


def test_example_at_a_position_does_not_depend_on_the_other_positions():
    order = Order(SIZE, 3)
    everything = order[np.arange(4 * SIZE)]
    positions = RNG.permutation(4 * SIZE)
    np.testing.assert_array_equal(order[positions], everything[positions])
    far = 10**12  # positions of a long training do not fit into int32
    np.testing.assert_array_equal(order[np.array([far])], order[np.arange(far - 5, far + 5)][5:6])


# ── Readers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_batches_contain_the_examples_of_the_order(resident):
    order = Order(SIZE, 0)
    batches = read(reader(resident=resident), order, 16, 8, [1, 2, 1, 3])  # from the middle of an epoch to the third
    assert [batch["image"].shape for batch in batches] == [(k, 8, 4, 3, 2) for k in (1, 2, 1, 3)]
    expected = order[np.arange(16, 16 + 7 * 8)]
    np.testing.assert_array_equal(flat(batches), expected)
    np.testing.assert_array_equal(flat(batches, "image"), SOURCE.images[expected])
    assert flat(batches, "mask").all()
    np.testing.assert_array_equal(flat(batches, "index"), expected)
    np.testing.assert_array_equal(flat(batches, "epoch"), np.arange(16, 16 + 7 * 8) // SIZE)
    types = {"image": "uint8", "label": "int32", "mask": "bool", "index": "int32", "epoch": "int32"}
    assert {name: array.dtype for name, array in batches[0].items()} == types


@pytest.mark.parametrize("source", [SOURCE, SEVERAL, Subset(SOURCE, np.array([3, 1, 20, 7, 8]))])
def test_streamed_batches_equal_resident_ones_also_over_8_devices(source):
    arguments = Order(len(source), 1), 8, 8, [2, 1, 1, 2]
    expected = read(reader(source, resident=True), *arguments)
    for resident, devices, threads in [(True, 8, 0), (False, 1, 0), (False, 8, 16)]:
        found = read(reader(source, resident=resident, devices=devices, threads=threads), *arguments)
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                assert one[name].dtype == other[name].dtype
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_arrays_padded_to_more_batches_begin_with_the_same_ones(resident):
    arguments = Order(SIZE, 0), 8, 8, [3, 1, 2]
    expected, found = read(reader(resident=resident), *arguments), read(reader(resident=resident), *arguments, 3)
    for padded, exact in zip(found, expected, strict=True):
        count = len(exact["mask"])
        for name, array in padded.items():
            assert array.shape == (3, *exact[name].shape[1:])
            assert array.dtype == exact[name].dtype
            np.testing.assert_array_equal(array[:count], exact[name])
        assert not padded["mask"][count:].any()


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
def test_each_device_holds_its_share_of_a_batch_and_nothing_else(resident):
    (batch,) = reader(resident=resident, devices=8)(Order(SIZE, 0), 0, 16, [3])
    for array in batch.values():
        assert [shard.data.shape[:2] for shard in array.addressable_shards] == [(3, 2)] * 8


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_batches_from_a_later_step_equal_the_rest_of_those_from_the_first(resident, step):
    order, batch_size = Order(SIZE, 0), 5
    complete = flat(read(reader(resident=resident), order, 0, batch_size, [1] * 9))
    tail = flat(read(reader(resident=resident), order, step * batch_size, batch_size, [9 - step]))
    np.testing.assert_array_equal(tail, complete[step * batch_size :])


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("batch_size", [1, 5, 7, 20, 21, 22, 64])
def test_evaluation_reads_every_example_once_and_masks_the_padding(resident, batch_size):
    batches = [jax.tree.map(np.asarray, b) for b in batches_once(reader(resident=resident), SIZE, batch_size)]
    assert all(batch["image"].shape == (1, batch_size, 4, 3, 2) for batch in batches)
    assert len(batches) == -(-SIZE // batch_size)
    mask = flat(batches, "mask")
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < SIZE)
    np.testing.assert_array_equal(flat(batches)[mask], SOURCE.labels)
    np.testing.assert_array_equal(flat(batches, "image")[mask], SOURCE.images)


def test_evaluation_over_8_devices_reads_every_example_once():
    for resident in (True, False):
        batches = [jax.tree.map(np.asarray, b) for b in batches_once(reader(resident=resident, devices=8), SIZE, 16)]
        np.testing.assert_array_equal(flat(batches)[flat(batches, "mask")], SOURCE.labels)


def test_images_read_at_once_equal_those_read_one_by_one():
    indices = np.array([5, 2, 9])
    for source in (SOURCE, Subset(SOURCE, np.arange(20)[::-1]), Subset(Subset(SOURCE, np.arange(3, 15)), np.arange(11))):
        np.testing.assert_array_equal(source.read_batch(indices), [source.read(int(index)) for index in indices])
        np.testing.assert_array_equal(source.read_batch(slice(1, 4)), [source.read(index) for index in (1, 2, 3)])
    assert dataclasses.replace(SOURCE, channels=1).read_batch(indices) is None, "they have 2 channels in memory"


def test_view_of_an_array_or_of_a_subset_is_that_of_the_image():
    view = Center((2, 3))
    for source, image in ((SOURCE, SOURCE.images[4]), (Subset(SOURCE, np.array([7, 4])), SOURCE.images[4])):
        index = 4 if source is SOURCE else 1
        np.testing.assert_array_equal(source.read(index, view), look(image, view(4, 3)))
    center = Resized(SOURCE, (2, 3, 2))
    np.testing.assert_array_equal(center.read(4), look(SOURCE.images[4], view(4, 3)))
    np.testing.assert_array_equal(center.read(4, Center((3, 3))), look(SOURCE.images[4], Center((3, 3))(4, 3)))


def test_automatic_choice_streams_data_that_do_not_fit_on_the_device(monkeypatch):
    loads = []

    class Counting(ArraySource):
        def read(self, index, view=None):
            loads.append(index)
            return super().read(index, view)

        def read_batch(self, indices):
            loads.extend(range(SIZE)[indices])
            return super().read_batch(indices)

    source = Counting(SOURCE.images, SOURCE.labels)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    for limit, resident in ((SOURCE.images.nbytes, True), (SOURCE.images.nbytes - 1, False)):
        loads.clear()
        monkeypatch.setattr("jaxcnn.data.pipeline.RESIDENT_BYTES", limit)
        make_reader(source, mesh, Reading("auto", threads=0))
        assert len(loads) == (SIZE if resident else 0)


def test_repeats_are_adjacent_and_follow_the_same_permutation():
    repeated, once = Order(SIZE, 0, repeats=3)[np.arange(2 * SIZE)], Order(SIZE, 0)[np.arange(2 * SIZE)]
    np.testing.assert_array_equal(repeated[:SIZE], once[: SIZE // 3].repeat(3))
    np.testing.assert_array_equal(repeated[SIZE:], once[SIZE : SIZE + SIZE // 3].repeat(3))


def test_balanced_order_draws_classes_equally_and_each_example_about_as_often_as_the_others_of_its_class():
    labels = np.repeat(np.arange(3), (90, 9, 3)).astype(np.int32)
    order = BalancedOrder(labels, seed=0)
    for epoch in range(3):
        drawn = order[np.arange(102) + 102 * epoch]
        assert np.bincount(labels[drawn]).tolist() == [34, 34, 34]
        for members in (drawn[labels[drawn] == label] for label in range(3)):
            times = np.unique(members, return_counts=True)[1]
            assert times.max() - times.min() <= 1
    np.testing.assert_array_equal(order[np.arange(50, 200)], BalancedOrder(labels, seed=0)[np.arange(300)][50:200])

"""Splits by index equal scikit-learn's exactly; splits by name depend only on the name of each example."""

import hashlib
import math
import unicodedata

import numpy as np
import pytest
from common.child_processes import run
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxcnn.data.formats import digits
from jaxcnn.data.splits import cut, cut_by_name, fold_by_name
from jaxcnn.errors import UserError


@pytest.mark.parametrize("share", [0.1, 0.2, 0.34, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("counts", [(50,) * 10, (20, 21, 22), (2, 3, 200), (7, 7, 7, 13, 13)])  # equal remainders, rare classes
def test_cut_is_that_of_train_test_split(share, seed, counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 3, counts))
    expected = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    for part, indices in zip(cut(labels, share, seed), expected, strict=True):
        np.testing.assert_array_equal(part, np.sort(indices))


def test_several_labels_per_image_are_cut_at_random():
    expected = train_test_split(np.arange(40), test_size=0.25, random_state=3)
    for part, indices in zip(cut(np.eye(4)[np.arange(40) % 4], 0.25, 3), expected, strict=True):
        np.testing.assert_array_equal(part, np.sort(indices))


@pytest.mark.parametrize(
    ("counts", "share", "message"),
    [((1, 9), 0.2, "only 1 member|least populated"), ((10,) * 5, 0.02, "should be greater or equal to the number of classes")],
)
def test_what_cannot_be_stratified_is_refused_with_the_reason(counts, share, message):
    with pytest.raises(UserError, match=rf"cannot split off .*({message})"):
        cut(np.repeat(np.arange(len(counts)), counts), share, 0)


def test_digits_are_those_of_scikit_learn():
    found, expected = digits(None), load_digits()
    everything = found.train.source
    np.testing.assert_array_equal(everything.labels, expected.target)
    np.testing.assert_array_equal(everything.images[..., 0], np.round(expected.images * (255 / 16)))
    assert (len(found.train), len(found.test)) == (1437, 360)


# ── By name ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def files(counts, prefix=""):
    """Returns the labels and names of `counts[k]` files of each class k."""
    names = [f"{label}/{prefix}{number}.png" for label, count in enumerate(counts) for number in range(count)]
    return np.repeat(np.arange(len(counts)), counts), np.array(names)


def parts(labels, names, share=0.2, salt="test 0"):
    """Returns {name: True if it is in the smaller part}."""
    larger, smaller = cut_by_name(labels, share, salt, names)
    assert sorted([*larger, *smaller]) == list(range(len(names)))
    return dict.fromkeys(names[larger], False) | dict.fromkeys(names[smaller], True)


def test_file_is_in_the_test_part_if_the_hash_of_its_name_is_below_the_share():
    labels, names = files((500, 300))
    for share, salt in ((0.2, "test 0"), (0.1, "validation 7")):
        digests = [hashlib.sha256(f"{salt}\0{name}".encode()).hexdigest() for name in names]
        expected = {name: int(digest[:13], 16) / 16**13 < share for name, digest in zip(names, digests, strict=True)}
        assert parts(labels, names, share, salt) == expected


def test_file_names_in_both_unicode_forms_are_one_name():
    (_, composed), (_, decomposed) = (
        cut_by_name(np.zeros(200, int), 0.5, "", np.array([unicodedata.normalize(form, f"é{i}") for i in range(200)]))
        for form in ("NFC", "NFD")
    )
    np.testing.assert_array_equal(composed, decomposed)


@pytest.mark.parametrize("added", ["!", "5", "z"])  # names that sort before, among and after the others
def test_files_stay_in_their_part_when_others_are_added_removed_or_reordered(added):
    labels, names = files((60, 40, 100))
    before = parts(labels, names)
    more_labels, more_names = files((3, 3, 50, 7), prefix=added)
    after = parts(np.concatenate([more_labels, labels]), np.concatenate([more_names, names]))
    assert {name: after[name] for name in names} == before
    order = np.random.default_rng(0).permutation(len(names))[:150]
    assert parts(labels[order], names[order]) == {name: before[name] for name in names[order]}


@pytest.mark.parametrize("seed", range(20))
def test_share_of_each_class_is_binomial(seed):
    labels, names = files((1000, 400))
    _, smaller = cut_by_name(labels, 0.2, f"validation {seed}", names)
    for label, count in ((0, 1000), (1, 400)):
        assert abs((labels[smaller] == label).sum() - 0.2 * count) < 4 * math.sqrt(count * 0.2 * 0.8)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_small_classes_are_in_both_parts_and_can_be_split_once_more(share):
    labels, names = files([*range(1, 8)] * 10)
    larger, smaller = cut_by_name(labels, share, "test 0", names)
    for label, count in enumerate(np.bincount(labels)):
        assert (labels[larger] == label).sum() >= max(1, min(2, count - 1))
        assert (labels[smaller] == label).any() == (count > 1)


def test_group_is_in_one_part_and_no_class_is_without_training_examples():
    labels, groups = np.arange(600) % 3, np.char.add("patient", (np.arange(600) // 20).astype(str))
    labels[groups == "patient7"], labels[groups == "patient8"] = 3, 4  # classes of a single group
    for salt in "abcdef":
        larger, smaller = cut_by_name(labels, 0.2, salt, groups)
        assert not set(groups[larger]) & set(groups[smaller])
        assert set(labels[larger]) == set(range(5))
        assert set(labels[smaller]) == set(range(3))
    with pytest.raises(UserError, match=r"data.group: all 600 examples to split are in the group \"patient\""):
        cut_by_name(labels, 0.2, "", np.full(600, "patient"))


@pytest.mark.parametrize("counts", [(300, 200), (4, 4, 2, 300)])
def test_folds_by_name_cover_the_data_set_and_keep_their_files(counts):
    labels, names = files(counts)
    folds = [fold_by_name(labels, which, 4, "fold 0", names) for which in range(4)]
    np.testing.assert_array_equal(np.sort(np.concatenate([chosen for _, chosen in folds])), np.arange(len(names)))
    more_labels, more_names = files((0,) * (len(counts) - 1) + (100,), prefix="!")
    for which, (rest, chosen) in enumerate(folds):
        assert sorted([*rest, *chosen]) == list(range(len(names)))
        assert set(labels[rest]) == set(range(len(counts)))
        assert set(labels[chosen]) >= {label for label, count in enumerate(counts) if count >= 4}
        _, after = fold_by_name(np.concatenate([more_labels, labels]), which, 4, "fold 0", np.concatenate([more_names, names]))
        np.testing.assert_array_equal(after[after >= 100] - 100, chosen)


def test_several_labels_per_image_are_cut_by_name():
    labels, names = files((30, 30))
    assert parts(np.eye(2, dtype=int)[labels], names) == parts(labels, names)
    with pytest.raises(UserError, match=r"data.fold: 1 groups or images are too few for 4 folds"):
        fold_by_name(np.zeros((3, 2), int), 0, 4, "", np.full(3, "a"))


@pytest.mark.slow
@pytest.mark.process
def test_training_starts_without_the_seconds_that_scikit_learn_takes_to_import():
    code = """
import sys
from jaxcnn.config import Config, changed
from jaxcnn.train.experiment import prepare
prepare(changed(Config(), {"data.image_size": 32}))
print("sklearn" in sys.modules)
"""
    assert run("-c", code) == (0, "False\n", "")

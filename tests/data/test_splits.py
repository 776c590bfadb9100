"""A cut is scikit-learn's train_test_split, to the index: what a run was trained on must not change with a version."""

import numpy as np
import pytest
from common.child_processes import run
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxcnn.data.formats import digits
from jaxcnn.data.splits import cut
from jaxcnn.errors import UserError


@pytest.mark.parametrize("share", [0.1, 0.2, 0.34, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("counts", [(50,) * 10, (20, 21, 22), (2, 3, 200), (7, 7, 7, 13, 13)])  # equal remainders, rare classes
def test_cut_is_that_of_train_test_split(share, seed, counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)) * 3, counts))
    expected = train_test_split(np.arange(len(labels)), test_size=share, random_state=seed, stratify=labels)
    for part, indices in zip(cut(labels, share, seed), expected, strict=True):
        np.testing.assert_array_equal(part, np.sort(indices))


def test_several_labels_an_image_are_cut_at_random():
    expected = train_test_split(np.arange(40), test_size=0.25, random_state=3)
    for part, indices in zip(cut(np.eye(4)[np.arange(40) % 4], 0.25, 3), expected, strict=True):
        np.testing.assert_array_equal(part, np.sort(indices))


@pytest.mark.parametrize(
    ("counts", "share", "message"),
    [((1, 9), 0.2, "only 1 member|least populated"), ((10,) * 5, 0.02, "should be greater or equal to the number of classes")],
)
def test_what_cannot_be_stratified_is_refused_with_the_reason(counts, share, message):
    with pytest.raises(UserError, match=rf"can't be cut off: .*({message})"):
        cut(np.repeat(np.arange(len(counts)), counts), share, 0)


def test_digits_are_those_of_scikit_learn():
    ours, theirs = digits(None), load_digits()
    everything = ours.train.source
    np.testing.assert_array_equal(everything.labels, theirs.target)
    np.testing.assert_array_equal(everything.images[..., 0], np.round(theirs.images * (255 / 16)))
    assert (len(ours.train), len(ours.test)) == (1437, 360)


@pytest.mark.slow
@pytest.mark.process
def test_training_starts_without_the_seconds_that_scikit_learn_takes_to_import():
    code = """
import sys
from jaxcnn.config import default_config
from jaxcnn.train.experiment import prepare
config = default_config()
config.data.image_size = 32
prepare(config)
print("sklearn" in sys.modules)
"""
    assert run("-c", code) == (0, "False\n", "")

"""The size of training images is a function of the step."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from jaxcnn.data import ArraySource, Sizes, training_view
from jaxcnn.data.sources import Resized

SMALL, MIDDLE, LARGE = THREE = ((32, 24), (40, 60), (48, 48))
FIXED, RAMP, DRAWN = Sizes((LARGE,)), Sizes(THREE, (7, 12), batch_size=4), Sizes(THREE, seed=3, batch_size=4)


def test_sizes_follow_one_another_at_the_boundaries():
    assert [RAMP.at_step(step) for step in range(15)] == [SMALL] * 7 + [MIDDLE] * 5 + [LARGE] * 3
    positions = (0, 27, 28, 47, 48, 10**12)
    assert [RAMP.at_position(position) for position in positions] == [SMALL, SMALL, MIDDLE, MIDDLE, LARGE, LARGE]
    assert {Sizes().at_step(step) for step in range(9)} == {None}
    assert {FIXED.at_step(step) for step in range(9)} == {LARGE}


def test_drawn_sizes_last_ten_steps_and_are_equally_frequent():
    drawn = np.array([THREE.index(DRAWN.at_step(step)) for step in range(6000)]).reshape(-1, 10)
    assert (drawn == drawn[:, :1]).all()
    counts = np.unique(drawn[:, 0], return_counts=True)[1]
    assert counts.min() > 160  # 200 each expected, standard deviation 11.5
    assert [DRAWN.at_step(step) for step in range(99)] != [Sizes(THREE, seed=4).at_step(step) for step in range(99)]


@pytest.mark.parametrize("sizes", [Sizes(), FIXED, RAMP, DRAWN])
def test_size_does_not_change_until_the_returned_step(sizes):
    total, step = 57, 0
    while step < total:
        until = sizes.until(step, total)
        assert step < until <= total
        assert len({sizes.at_step(s) for s in range(step, until)}) == 1
        step = until


def test_random_crops_have_the_size_of_their_step():
    photo = load_sample_images().images[0]
    source = Resized(ArraySource(photo[None], np.zeros(1, np.int32)), (48, 48, 3), crop=((0.5, 1.0), (1.0, 1.0)), sizes=RAMP)
    for position in (0, 27, 28, 60):
        assert source.read(0, training_view(source, position)).shape == (*RAMP.at_position(position), 3)
    assert source.read(0).shape == source.image_shape == (48, 48, 3)

"""Sizes of training's images are functions of the step, and one step has one size."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from jaxcnn.data import ArraySource, Sizes
from jaxcnn.data.sources import Resized

FIXED, RAMP, DRAWN = Sizes((48,)), Sizes((32, 40, 48), (7, 12), batch_size=4), Sizes((32, 40, 48), seed=3, batch_size=4)


def test_sides_follow_one_another_at_the_boundaries():
    assert [RAMP.at_step(step) for step in range(15)] == [32] * 7 + [40] * 5 + [48] * 3
    assert [RAMP.at_place(place) for place in (0, 27, 28, 47, 48, 10**12)] == [32, 32, 40, 40, 48, 48]
    assert {Sizes().at_step(step) for step in range(9)} == {None}
    assert {FIXED.at_step(step) for step in range(9)} == {48}


def test_drawn_sides_are_held_for_ten_steps_and_come_equally_often():
    sides = np.array([DRAWN.at_step(step) for step in range(6000)]).reshape(-1, 10)
    assert (sides == sides[:, :1]).all()
    counts = np.unique(sides[:, 0], return_counts=True)[1]
    assert counts.min() > 160  # 200 each expected, standard deviation 11.5
    assert [DRAWN.at_step(step) for step in range(99)] != [Sizes((32, 40, 48), seed=4).at_step(step) for step in range(99)]


@pytest.mark.parametrize("sizes", [Sizes(), FIXED, RAMP, DRAWN])
def test_nothing_changes_until_the_step_that_is_named(sizes):
    total, step = 57, 0
    while step < total:
        until = sizes.until(step, total)
        assert step < until <= total
        assert len({sizes.at_step(s) for s in range(step, until)}) == 1
        step = until


def test_random_crops_come_in_the_size_of_their_step():
    photo = load_sample_images().images[0]
    source = Resized(ArraySource(photo[None], np.zeros(1, np.int32)), (48, 48, 3), crop=((0.5, 1.0), (1.0, 1.0)), sizes=RAMP)
    for place in (0, 27, 28, 60):
        side = RAMP.at_place(place)
        assert source.at(0, place).shape == source.shape_at(place) == (side, side, 3)
    assert source[0].shape == source.image_shape == (48, 48, 3)

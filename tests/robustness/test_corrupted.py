"""The data source of corrupted images."""

import re

import numpy as np
import pytest

from jaxcnn.data import ArraySource, Reading, Resized, Source, batches_once, make_reader
from jaxcnn.errors import UserError
from jaxcnn.robustness import Corrupted, corrupt
from jaxcnn.train.devices import make_mesh

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
SOURCE = ArraySource(IMAGES, np.arange(5, dtype=np.int32))
EXPECTED = np.stack([corrupt(image, "gaussian_noise", 3, 7, index) for index, image in enumerate(IMAGES)])


@pytest.mark.parametrize("resident", ["on", "off"])
@pytest.mark.parametrize("batch_size", [2, 5])
def test_batches_contain_the_corrupted_images_in_every_batch_size(resident, batch_size):
    source = Corrupted(SOURCE, "gaussian_noise", 3, seed=7)
    batches = list(batches_once(make_reader(source, make_mesh(1), Reading(resident)), len(source), batch_size))
    images = np.concatenate([np.asarray(batch["image"])[0] for batch in batches])
    labels = np.concatenate([np.asarray(batch["label"])[0] for batch in batches])
    np.testing.assert_array_equal(images[:5], EXPECTED)
    np.testing.assert_array_equal(labels[:5], np.arange(5))


def test_images_are_corrupted_in_the_size_of_the_networks_input():
    resized = Resized(SOURCE, (48, 40, 3))
    source = Corrupted(resized, "gaussian_noise", 3, seed=7)
    assert source.image_shape == (48, 40, 3)
    np.testing.assert_array_equal(source.read(2), corrupt(resized.read(2), "gaussian_noise", 3, 7, 2))


@pytest.mark.parametrize(
    ("side", "form", "note"),
    [
        (32, "auto", "corruptions: constants of cifar_c, published for 32×32 pixels; images: 32×32"),
        (96, "auto", "corruptions: constants of imagenet_c, published for 224×224 pixels; images: 96×96"),
        (32, "imagenet_c", "corruptions: constants of imagenet_c, published for 224×224 pixels; images: 32×32, "
                           "for which those of cifar_c are meant"),
    ],
)  # fmt: skip
def test_a_line_states_the_form(side, form, note):
    source = ArraySource(np.zeros((1, side, side, 3), np.uint8), None)
    assert Corrupted(source, "contrast", 1, form=form).note == note


class OfDifferentSizes(Source):
    labels = None

    @property
    def image_shape(self):
        return None

    def read(self, index, view=None):
        raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (OfDifferentSizes(), ("fog", 1), "corruptions need images of one size; resize them first"),
        (ArraySource(IMAGES[..., :1], None), ("fog", 1), "corruptions are defined for RGB images"),
        (SOURCE, ("fogg", 1), 'no corruption "fogg" (did you mean "fog"'),
        (SOURCE, ("fog", 6), "the severity of a corruption is 1, 2, 3, 4 or 5, got 6"),
        (SOURCE, ("frost", 1, 0, "auto", "nowhere"), "nowhere/frost1.png: can't be read"),
    ],
)
def test_mistakes_are_found_before_an_image_is_read(source, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Corrupted(source, *arguments)

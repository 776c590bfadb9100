"""Numbers of channels: grey as RGB, RGB as grey, and more than three."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.config import default_config
from jaxcnn.data import Once, Reading, load, make_augmentation, make_preprocessing, make_reader
from jaxcnn.data.augment.policy import OPERATIONS
from jaxcnn.data.decode import decode
from jaxcnn.errors import UserError
from jaxcnn.train.experiment import make_mesh

RNG = np.random.default_rng(0)
COLOURED = {"saturation", "hue", "grey", "colour_jitter", "auto_augment", "rand_augment", "trivial_augment", "three_augment"}


def settings(name, root="", channels=0, **changes):
    config = default_config().data
    for setting, value in {"name": name, "root": str(root), "channels": channels, **changes}.items():
        config[setting] = value
    return config


def arrays(path, channels):
    """An .npz of 20 training and 10 test images of so many channels; the training images."""
    train, test = (RNG.integers(0, 256, (n, 6, 7, channels), np.uint8) for n in (20, 10))
    labels = {"train_labels": np.arange(20) % 2, "test_labels": np.arange(10) % 2}
    np.savez(path, train_images=train, test_images=test, **labels)
    return train


def read(source, resident):
    reader = make_reader(source, make_mesh(1), Reading(resident))
    batches = [np.asarray(batch["image"])[0] for batch in reader(Once(len(source)), 0, 10, [1] * (len(source) // 10))]
    return np.concatenate(batches)


@pytest.mark.parametrize("resident", ["on", "off"])
def test_grey_arrays_are_repeated_and_colour_arrays_become_their_luma(tmp_path, resident):
    grey = arrays(tmp_path / "grey.npz", 1)
    as_rgb = load(settings("arrays", tmp_path / "grey.npz", 3, validation=0.0), seed=0)
    np.testing.assert_array_equal(read(as_rgb.train, resident), np.repeat(grey, 3, axis=3))
    assert {source.image_shape for source in as_rgb.parts().values()} == {(6, 7, 3)}
    assert as_rgb.train[0].strides[2] == 0, "repeated without memory"

    rgb = arrays(tmp_path / "rgb.npz", 3)
    as_grey = load(settings("arrays", tmp_path / "rgb.npz", 1, validation=0.0), seed=0)
    found = read(as_grey.train, resident)
    assert found.shape == (20, 6, 7, 1)
    assert np.abs(found[..., 0] - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 0.51  # ITU-R 601, rounded
    png = cv2.imencode(".png", rgb[3][..., ::-1])[1].tobytes()
    decoded = decode(png, "", 1)  # a picture of the same pixels, whose decoder cuts fractions off
    assert np.abs(found[3].astype(int) - decoded).max() <= 1


def test_parts_that_are_cut_off_and_the_input_have_the_channels_too():
    config = settings("digits", channels=3, image_size=32)
    dataset = load(config, seed=0)
    stored = load(settings("digits"), seed=0)
    for part, source in dataset.parts().items():
        np.testing.assert_array_equal(source[5], np.repeat(getattr(stored, part)[5], 3, axis=2))
    preprocessing = make_preprocessing(config, dataset.train)
    assert preprocessing.input_shape == (32, 32, 3)
    assert len(set(preprocessing.mean)) == len(set(preprocessing.std)) == 1


@pytest.mark.parametrize(("stored", "wanted"), [(5, 3), (5, 1), (1, 2), (3, 5)])
def test_other_changes_of_channels_are_refused(tmp_path, stored, wanted):
    arrays(tmp_path / "a.npz", stored)
    with pytest.raises(UserError, match=f"data.channels: the images of arrays have {stored}, not {wanted}; only grey"):
        load(settings("arrays", tmp_path / "a.npz", wanted), seed=0)
    assert load(settings("arrays", tmp_path / "a.npz", stored), seed=0).train.image_shape == (6, 7, stored)


@pytest.mark.parametrize("entry", [*sorted(COLOURED), ("aug_mix", {"all_operations": True}), ("colour_jitter", {"hue": 0.1})])
def test_what_changes_colours_refuses_images_that_have_none_to_change(entry):
    with pytest.raises(UserError, match=r"data.augment: what changes colours .* 1 or 3 channels, but these have 5"):
        make_augmentation([entry]).check((8, 8, 5))
    for channels in (1, 3):
        make_augmentation([entry]).check((8, 8, channels))


@pytest.mark.parametrize("entry", [*sorted(OPERATIONS.keys() - COLOURED), ("colour_jitter", {"saturation": 0})])
def test_other_operations_take_any_number_of_channels(entry):
    images = jax.ShapeDtypeStruct((2, 9, 9, 5), jnp.uint8)
    found = jax.eval_shape(make_augmentation([entry]), images, jax.random.key(0))
    assert (found.shape, found.dtype) == (images.shape, images.dtype)

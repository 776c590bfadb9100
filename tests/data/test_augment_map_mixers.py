"""Tests of the mixers of images with maps, which are compared with the same mixtures made in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn.data import make_augmentation
from jaxcnn.data.fields import VOID
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)
N, HEIGHT, WIDTH = 16, 12, 20
KEYS = [jax.random.key(seed) for seed in range(40)]
CLASSES = [RNG.choice(VOID, 1 + i % 7, replace=False) for i in range(N)]
"""The classes of each map: one to seven of 0…254."""
MAPS = np.stack([RNG.choice([*classes, VOID], (HEIGHT, WIDTH)) for classes in CLASSES]).astype(np.uint8)
PLACES = np.broadcast_to(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH), MAPS.shape)
NUMBERS = np.broadcast_to(np.arange(N)[:, None, None], MAPS.shape)
IMAGES = np.stack([MAPS, NUMBERS, PLACES], axis=-1).astype(np.float32)
"""The channels of each pixel are its class, the number of its image, and its place."""
MIXERS = ["cutmix", "mosaic", "copy_paste"]
QUICKLY = {"xla_backend_optimization_level": 0}


def sources(name, repeats=1, keys=KEYS, **settings):
    """Returns the image from which each pixel was taken, (len(keys), N, H, W), after checking that maps and pixels agree."""
    mix = jax.jit(make_augmentation([(name, settings)], repeats).mix, compiler_options=QUICKLY)
    found = []
    for key in keys:
        images, maps = (np.asarray(mixed) for mixed in mix(jnp.asarray(IMAGES), jnp.asarray(MAPS), key))
        assert (images.dtype, maps.dtype) == (np.float32, np.uint8)
        classes, source, place = np.moveaxis(images, -1, 0)
        np.testing.assert_array_equal(maps, classes)
        np.testing.assert_array_equal(place, PLACES)
        np.testing.assert_array_equal(maps, np.take_along_axis(MAPS, source.astype(int), axis=0))
        found.append(source.astype(int))
    return np.stack(found)


@pytest.mark.parametrize("name", MIXERS)
def test_partners_are_multiples_of_the_repeats_away(name):
    places = np.unique((NUMBERS - sources(name, repeats=3, keys=KEYS[:5])) % N)
    np.testing.assert_array_equal(places, np.arange(4 if name == "mosaic" else 2) * 3)


def test_cutmix_pastes_the_same_boxes_as_for_class_targets():
    pasted = sources("cutmix", per_example=True) != NUMBERS
    mix = jax.jit(make_augmentation([("cutmix", {"per_example": True})]).mix, compiler_options=QUICKLY)
    for key, boxes in zip(KEYS, pasted, strict=True):
        images, targets = (np.asarray(mixed) for mixed in mix(jnp.asarray(IMAGES), jnp.eye(N), key))
        np.testing.assert_array_equal(boxes, images[..., 1] != NUMBERS)
        np.testing.assert_allclose(1 - np.diagonal(targets), boxes.mean(axis=(1, 2)), atol=1e-6)
    assert 0.2 < pasted.mean() < 0.5


def test_mosaic_has_quadrants_of_four_images_around_a_center_in_the_middle():
    found, centers, mosaics = sources("mosaic", p=0.7), [], []
    rows, columns = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    for mixed in found:
        for i, source in enumerate(mixed):
            mosaics.append((source != i).any())
            if mosaics[-1]:
                top, left = (source[:, 0] == i).sum(), (source[0] == i).sum()
                np.testing.assert_array_equal(source, (i - (columns >= left) - 2 * (rows >= top)) % N)
                centers.append((top, left))
    assert abs(np.mean(mosaics) - 0.7) < 5 * np.sqrt(0.21 / len(mosaics))
    for values, length in zip(np.transpose(centers), (HEIGHT, WIDTH), strict=True):
        shares = np.unique(values, return_counts=True)[1] / len(centers)
        assert (values.min(), values.max()) == (round(0.2 * length), round(0.8 * length))
        np.testing.assert_allclose(shares, 1 / len(shares), atol=5 / np.sqrt(len(shares) * len(centers)))


@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_copy_paste_pastes_all_pixels_of_a_share_of_the_partners_classes_but_void(share):
    found, changed = sources("copy_paste", p=0.7, share=share), []
    times = {(i, k): 0 for i in range(N) for k in CLASSES[i].tolist()}
    for mixed in found:
        for i, source in enumerate(mixed):
            partner = (i - 1) % N
            pasted, number = source == partner, int(share * len(CLASSES[partner]))
            drawn = np.unique(MAPS[partner][pasted])
            np.testing.assert_array_equal(pasted, np.isin(MAPS[partner], drawn))
            assert VOID not in drawn
            assert len(drawn) in (0, number)
            for k in drawn.tolist():
                times[partner, k] += 1
            if number:
                changed.append(pasted.any())
    assert abs(np.mean(changed) - 0.7) < 5 * np.sqrt(0.21 / len(changed))
    for (i, k), count in times.items():
        expected = 0.7 * int(share * len(CLASSES[i])) / len(CLASSES[i])
        assert abs(count / len(KEYS) - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(KEYS)), (i, k)


def test_pixels_without_a_partners_class_stay_void_and_others_are_pasted_over_void():
    """With all classes pasted, a pixel is void only if it is void in both maps."""
    _, maps = make_augmentation([("copy_paste", {"p": 1.0, "share": 1.0})]).mix(jnp.asarray(IMAGES), jnp.asarray(MAPS), KEYS[0])
    np.testing.assert_array_equal(np.asarray(maps) == VOID, (MAPS == VOID) & (np.roll(MAPS, 1, axis=0) == VOID))


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept(name, dtype):
    images, maps = jax.eval_shape(make_augmentation([name]).mix, jnp.zeros((4, 6, 5, 3), dtype), MAPS[:4, :6, :5], KEYS[0])
    assert (images.shape, images.dtype) == ((4, 6, 5, 3), dtype)
    assert (maps.shape, maps.dtype) == ((4, 6, 5), jnp.uint8)


@pytest.mark.slow
def test_eight_devices_give_the_same_mixtures_without_gathering_them():
    mix = make_augmentation(MIXERS, repeats=2).mix
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    inputs = jax.device_put((IMAGES, MAPS), sharding)
    sharded = jax.jit(mix, out_shardings=sharding).lower(*inputs, KEYS[0]).compile(QUICKLY)
    assert "all-gather" not in sharded.as_text()
    expected = jax.jit(mix, compiler_options=QUICKLY)(IMAGES, MAPS, KEYS[0])
    for one, other in zip(sharded(*inputs, KEYS[0]), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.asarray(expected[1]) != MAPS).mean() > 0.3


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("mixup", {"map"}, "mixes images, which is not defined for maps"),
        ("mixup_or_cutmix", {"map"}, "mixes images, which is not defined for maps"),
        ("aug_mix", {"map", "label"}, "mixes images, which is not defined for maps"),
        ("mixup", {"map", "boxes"}, "mixes images, which is not defined for maps and boxes"),
        ("aug_mix", {"boxes"}, "mixes images, which is not defined for boxes"),
        ("cutmix", {"map", "boxes"}, "mixes images, which is not defined for boxes"),
        ("mosaic", {"boxes"}, "mixes images, which is not defined for boxes"),
        ("copy_paste", {"boxes"}, "mixes images, which is not defined for boxes"),
        ("mosaic", {"label"}, "needs maps, as in semantic segmentation"),
        ("copy_paste", {"labels"}, "needs maps, as in semantic segmentation"),
        ("copy_paste", set(), "needs maps, as in semantic segmentation"),
    ],
)
def test_mixers_are_refused_for_targets_for_which_they_are_not_defined(name, kinds, message):
    with pytest.raises(UserError, match=f"^data.augment: {name} {message}; leave it out$"):
        make_augmentation(["horizontal_flip", name]).check_fields(kinds)


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("mixup", "cutmix", "mixup_or_cutmix", "aug_mix"), {"label"}),
        (("mixup", "cutmix", "mixup_or_cutmix", "aug_mix"), {"labels"}),
        (("cutmix", "mosaic", "copy_paste"), {"map"}),
        (("cutmix",), {"map", "label"}),
        (("horizontal_flip", "hue", "alternating_flip"), {"map", "boxes"}),
    ],
)
def test_mixers_are_accepted_for_targets_for_which_they_are_defined(names, kinds):
    make_augmentation(names).check_fields(kinds)

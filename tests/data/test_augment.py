import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn.data import make_augmentation
from jaxcnn.data.augment.policy import OPERATIONS
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)
MANY = 512
# Many copies of one image whose pixels all have different values, so that the position of a crop can be identified.
PICTURE = RNG.permutation(5 * 4 * 2).astype(np.uint8).reshape(5, 4, 2) + np.uint8(1)
PICTURES = np.broadcast_to(PICTURE, (MANY, 5, 4, 2))
KEY = jax.random.key(0)


def augmented(*policy, images=PICTURES, key=KEY):
    return np.asarray(jax.jit(make_augmentation(policy))(jnp.asarray(images), key))


def windows(pad, mode):
    """Returns {bytes of a window of the padded image: its offset}."""
    padded = np.pad(PICTURE, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    return {padded[y : y + 5, x : x + 4].tobytes(): (y, x) for y in range(2 * pad + 1) for x in range(2 * pad + 1)}


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("pad", [1, 2])
def test_every_crop_is_a_window_of_the_padded_image_and_all_are_equally_frequent(pad, mode):
    places = windows(pad, mode)
    assert len(places) == (2 * pad + 1) ** 2
    found = augmented(("random_crop", {"pad": pad, "mode": mode}))
    assert found.dtype == np.uint8
    rows, columns = np.array([places[picture.tobytes()] for picture in found]).T  # a KeyError means that it is not a window
    for offsets in (rows, columns):
        counts = np.bincount(offsets, minlength=2 * pad + 1)
        expected = MANY / (2 * pad + 1)
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2


def test_crop_pads_by_4_with_zeros_by_default():
    default = augmented("random_crop")
    np.testing.assert_array_equal(default, augmented(("random_crop", {"pad": 4, "mode": "constant"})))
    assert (default == 0).any()


def test_crop_without_padding_changes_nothing():
    np.testing.assert_array_equal(augmented(("random_crop", {"pad": 0})), PICTURES)


def test_horizontal_flip_mirrors_half_of_the_images_left_to_right():
    found = augmented("horizontal_flip")
    mirrored = (found == PICTURE[:, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found[~mirrored], PICTURES[~mirrored])
    assert abs(mirrored.sum() - MANY / 2) < 5 * np.sqrt(MANY / 4)


def test_operations_are_applied_in_order_with_independent_random_numbers():
    policy = ("random_crop", {"pad": 1}), "horizontal_flip"
    both = augmented(*policy)
    places = windows(1, "constant")
    mirrored = np.array([picture.tobytes() not in places for picture in both])
    offsets = [places[(p[:, ::-1] if m else p).tobytes()] for p, m in zip(both, mirrored, strict=True)]
    for axis in (0, 1):  # offsets are independent of mirroring
        assert abs(np.corrcoef(np.array(offsets)[:, axis], mirrored)[0, 1]) < 0.2
    twice = augmented("horizontal_flip", "horizontal_flip")  # with one key, the second would undo the first
    assert not np.array_equal(twice, PICTURES)


def test_policy_without_operations_changes_nothing():
    np.testing.assert_array_equal(augmented(), PICTURES)


@pytest.mark.slow
def test_same_key_gives_the_same_result_and_another_key_another():
    policy = ("random_crop", {"pad": 2}), "horizontal_flip"
    np.testing.assert_array_equal(augmented(*policy), augmented(*policy))
    assert not np.array_equal(augmented(*policy), augmented(*policy, key=jax.random.key(1)))


def test_result_does_not_depend_on_how_many_devices_share_the_batch():
    policy = ("random_crop", {"pad": 2, "mode": "reflect"}), "horizontal_flip"
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(PICTURES, NamedSharding(mesh, PartitionSpec("data")))
    found = jax.jit(make_augmentation(policy))(sharded, KEY)
    np.testing.assert_array_equal(found, augmented(*policy))


def test_float_images_stay_float():
    assert augmented("random_crop", "horizontal_flip", images=PICTURES.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("vertical_flpi", r"no operation 'vertical_flpi' \(did you mean \"vertical_flip\"\?\); available: horizontal"),
        ("colour_jitter", "'colour_jitter' has been renamed to 'color_jitter'$"),
        (("flip", {"p": 0.7}), "'flip' has been renamed to 'horizontal_flip'$"),
        (("flip", {"axis": "vertical", "p": 0.7}), "'flip' has been renamed to 'vertical_flip'$"),
        (("random_erasing", {"fill": "grey"}), "random_erasing: fill: expected one of noise, gray, black; got 'grey'"),
        (("random_crp", {"pad": 2}), "no operation 'random_crp' .did you mean \"random_crop\""),
        (("random_crop", {"pd": 2}), "random_crop has no setting 'pd' .did you mean \"pad\""),
        (("horizontal_flip", {"q": 0.5}), "horizontal_flip has no setting 'q'; it has p"),
        (("horizontal_flip", {"p": 1.5}), "horizontal_flip: p: expected a finite number from 0 to 1, got 1.5"),
        (("cutout", {"size": 0}), "cutout: size: expected an int of at least 1, got 0"),
        (("cutout", {"fill": 256}), "cutout: fill: expected an int from 0 to 255, got 256"),
        (("mixup", {"alpha": 0}), "mixup: alpha: expected a finite number above 0, got 0"),
        (
            ("random_erasing", {"area": 0.3}),
            r"random_erasing: area: expected \(low, high\), each a finite number above 0 and of at most 1, got 0.3",
        ),
        (("random_erasing", {"area": (0.4, 0.2)}), r"area: expected \(low, high\), .*, got \(0.4, 0.2\)"),
        (("random_erasing", {"area": (0.1, 2)}), r"area: expected .*, got \(0.1, 2\)"),
        (("aug_mix", {"all_operations": 1}), "all_operations: expected True or False, got 1"),
        (("auto_augment", {"policy": "cifar"}), "policy: expected one of cifar10, imagenet; got 'cifar' .did you mean"),
        (("horizontal_flip", {"images": 1}), "horizontal_flip has no setting 'images'"),
        (("random_crop", {"pad": 2.0}), "random_crop: pad: expected an int of at least 0, got 2.0"),
        (("random_crop", {"pad": True}), "random_crop: pad: expected an int of at least 0, got True"),
        (("random_crop", {"mode": 1}), "random_crop: mode: expected one of constant, reflect; got 1"),
        (("random_crop", 4), r"\('random_crop', 4\) should be \"name\" or \(\"name\", "),
        (("random_crop", {"pad": 4}, "horizontal_flip"), "should be"),
        (("random_crop", "horizontal_flip"), "should be"),
        ((), "should be"),
        (5, "5 should be"),
        ({"pad": 4}, "should be"),
    ],
)
def test_invalid_entries_are_refused_with_a_hint(entry, message):
    with pytest.raises(UserError, match=f"data.augment: .*{message}"):
        make_augmentation([entry])


@pytest.mark.parametrize(("arguments", "message"), [({"pad": -1}, "pad: .* got -1"), ({"mode": "refelct"}, '"reflect"')])
def test_crop_refuses_invalid_values(arguments, message):
    with pytest.raises(UserError, match=f"data.augment: random_crop: .*{message}"):
        make_augmentation([("random_crop", arguments)])


def test_settings_may_be_lists_and_integers_as_in_json():
    from_json = make_augmentation([("random_erasing", {"p": 1, "area": [0.1, 0.2]})])
    assert from_json == make_augmentation([("random_erasing", {"p": 1.0, "area": (0.1, 0.2)})])


def test_a_size_is_the_side_of_a_square_or_a_height_and_a_width():
    images = jax.ShapeDtypeStruct((2, 8, 6, 3), jnp.uint8)
    for size, expected in ((5, (5, 5)), ((4, 7), (4, 7)), ([4, 7], (4, 7)), (0, (8, 6))):
        crop = make_augmentation([("random_resized_crop", {"size": size})])
        assert jax.eval_shape(crop, images, KEY).shape == (2, *expected, 3)
    for size in ((4,), (4, 5, 6), (4, 5.0), "4", 4.0, (4, -1)):
        with pytest.raises(UserError, match="random_resized_crop: size: expected pixels such as 224, or"):
            make_augmentation([("random_resized_crop", {"size": size})])


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 8, 6, 1), jnp.uint8), ((2, 5, 7, 3), jnp.float32), ((2, 9, 9, 3), jnp.uint8)]
)
def test_every_operation_keeps_shape_and_dtype(name, shape, dtype):
    found = jax.eval_shape(make_augmentation([name]), jax.ShapeDtypeStruct(shape, dtype), KEY)
    assert (found.shape, found.dtype) == (shape, dtype)


QUICKLY = {"xla_backend_optimization_level": 0}  # compiled in a third of the time
EVERYTHING = (
    "alternating_flip",
    ("random_crop", {"pad": 2, "mode": "reflect"}),
    "horizontal_flip",
    "random_resized_crop",
    ("affine", {"degrees": 20.0, "translate": 0.1, "scale": (0.9, 1.1), "shear": 0.1}),
    "hue",
    "rand_augment",
    "three_augment",
    ("aug_mix", {"width": 2, "depth": 1}),
    ("cutout", {"size": 4}),
    "random_erasing",
    "mixup_or_cutmix",
)


@pytest.mark.slow
def test_all_operations_give_the_same_on_eight_devices_without_gathering_the_images():
    augmentation = make_augmentation(EVERYTHING)
    n, classes = 64, 10
    inputs = {
        "images": RNG.integers(0, 256, (n, 12, 16, 3)).astype(np.uint8),
        "targets": np.eye(classes, dtype=np.float32)[RNG.integers(0, classes, n)],
        "index": np.arange(n),
        "epoch": np.full(n, 3),
    }

    def both(images, targets, index, epoch):
        augmented = augmentation(images, KEY, run_key=KEY, index=index, epoch=epoch)
        return augmented, *augmentation.mix(augmented, targets, KEY)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.jit(both, out_shardings=sharding).lower(**jax.device_put(inputs, sharding)).compile(QUICKLY)
    assert "all-gather" not in sharded.as_text()
    found, expected = sharded(**jax.device_put(inputs, sharding)), jax.jit(both, compiler_options=QUICKLY)(**inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.asarray(found[0]) != inputs["images"]).mean() > 0.5


def test_alternating_flip_shows_both_versions_of_each_image_in_two_consecutive_epochs():
    augmentation = make_augmentation(["alternating_flip"])
    index = np.arange(MANY)

    def mirrored(epoch, index=index, key=KEY, run_key=KEY):
        places = {"run_key": run_key, "index": index, "epoch": np.full(MANY, epoch)}
        found = jax.jit(augmentation)(jnp.asarray(PICTURES), key, **places)
        flipped = (np.asarray(found) == PICTURE[:, ::-1]).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(np.asarray(found)[~flipped], PICTURES[~flipped])
        return flipped

    first = mirrored(0)
    assert abs(first.sum() - MANY / 2) < 5 * np.sqrt(MANY / 4)
    np.testing.assert_array_equal(mirrored(1), ~first)
    np.testing.assert_array_equal(mirrored(2), first)
    np.testing.assert_array_equal(mirrored(0, index[::-1]), first[::-1])  # depends on the example, not on its position,
    other = jax.random.key(1)
    np.testing.assert_array_equal(mirrored(0, key=other), first)  # not on the step,
    assert abs((mirrored(0, run_key=other) ^ first).sum() - MANY / 2) < 5 * np.sqrt(MANY / 4)  # but on the seed


def test_alternating_flip_without_index_raises_an_error():
    with pytest.raises(ValueError, match="index"):
        make_augmentation(["alternating_flip"])(jnp.asarray(PICTURES), KEY)

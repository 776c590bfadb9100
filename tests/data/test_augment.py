import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxcnn.data import make_augmentation
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)
MANY = 512
# one picture many times, each of its pixels of a value of its own, so that a result tells where it was cut out
PICTURE = RNG.permutation(5 * 4 * 2).astype(np.uint8).reshape(5, 4, 2) + np.uint8(1)
PICTURES = np.broadcast_to(PICTURE, (MANY, 5, 4, 2))
KEY = jax.random.key(0)


def augmented(*policy, images=PICTURES, key=KEY):
    return np.asarray(jax.jit(make_augmentation(policy))(jnp.asarray(images), key))


def windows(pad, mode):
    """{bytes of a window of the padded picture: its offset}."""
    padded = np.pad(PICTURE, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    return {padded[y : y + 5, x : x + 4].tobytes(): (y, x) for y in range(2 * pad + 1) for x in range(2 * pad + 1)}


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("pad", [1, 2])
def test_every_crop_is_a_window_of_the_padded_picture_and_all_occur_alike(pad, mode):
    places = windows(pad, mode)
    assert len(places) == (2 * pad + 1) ** 2
    found = augmented(("random_crop", {"pad": pad, "mode": mode}))
    assert found.dtype == np.uint8
    rows, columns = np.array([places[picture.tobytes()] for picture in found]).T  # a KeyError: it is no window
    for offsets in (rows, columns):
        counts = np.bincount(offsets, minlength=2 * pad + 1)
        expected = MANY / (2 * pad + 1)
        assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2


def test_crop_pads_by_4_with_zeros_unless_told_otherwise():
    default = augmented("random_crop")
    np.testing.assert_array_equal(default, augmented(("random_crop", {"pad": 4, "mode": "constant"})))
    assert (default == 0).any()


def test_crop_without_padding_changes_nothing():
    np.testing.assert_array_equal(augmented(("random_crop", {"pad": 0})), PICTURES)


def test_flip_mirrors_half_of_the_pictures_left_to_right():
    found = augmented("flip")
    mirrored = (found == PICTURE[:, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found[~mirrored], PICTURES[~mirrored])
    assert abs(mirrored.sum() - MANY / 2) < 5 * np.sqrt(MANY / 4)


def test_operations_follow_each_other_each_with_randomness_of_its_own():
    policy = ("random_crop", {"pad": 1}), "flip"
    both = augmented(*policy)
    places = windows(1, "constant")
    mirrored = np.array([picture.tobytes() not in places for picture in both])
    offsets = [places[(p[:, ::-1] if m else p).tobytes()] for p, m in zip(both, mirrored, strict=True)]
    for axis in (0, 1):  # no offset says whether a picture was mirrored
        assert abs(np.corrcoef(np.array(offsets)[:, axis], mirrored)[0, 1]) < 0.2
    twice = augmented("flip", "flip")  # with one key, the second would undo the first
    assert not np.array_equal(twice, PICTURES)


def test_policy_without_operations_changes_nothing():
    np.testing.assert_array_equal(augmented(), PICTURES)


def test_same_key_gives_the_same_result_and_another_key_another():
    policy = ("random_crop", {"pad": 2}), "flip"
    np.testing.assert_array_equal(augmented(*policy), augmented(*policy))
    assert not np.array_equal(augmented(*policy), augmented(*policy, key=jax.random.key(1)))


def test_result_does_not_depend_on_how_many_devices_share_the_batch():
    policy = ("random_crop", {"pad": 2, "mode": "reflect"}), "flip"
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(PICTURES, NamedSharding(mesh, PartitionSpec("data")))
    found = jax.jit(make_augmentation(policy))(sharded, KEY)
    np.testing.assert_array_equal(found, augmented(*policy))


def test_resized_pictures_of_floats_stay_floats():
    assert augmented("random_crop", "flip", images=PICTURES.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("flpi", r"no operation 'flpi' \(did you mean \"flip\"\?\); there are flip, random_crop"),
        (("random_crp", {"pad": 2}), "no operation 'random_crp' .did you mean \"random_crop\""),
        (("random_crop", {"pd": 2}), "random_crop has no setting 'pd' .did you mean \"pad\""),
        (("flip", {"p": 0.5}), "flip has no setting 'p'; it has none"),
        (("flip", {"images": 1}), "flip has no setting 'images'"),
        (("random_crop", {"pad": 2.0}), "random_crop: pad is 2.0, but a value such as 4 is meant"),
        (("random_crop", {"pad": True}), "random_crop: pad is True"),
        (("random_crop", {"mode": 1}), "random_crop: mode is 1, but a value such as 'constant'"),
        (("random_crop", 4), r"\('random_crop', 4\) should be \"name\" or \(\"name\", "),
        (("random_crop", {"pad": 4}, "flip"), "should be"),
        (("random_crop", "flip"), "should be"),
        ((), "should be"),
        (5, "5 should be"),
        ({"pad": 4}, "should be"),
    ],
)
def test_entry_that_is_no_operation_is_refused_with_what_would_be_right(entry, message):
    with pytest.raises(UserError, match=f"data.augment: .*{message}"):
        make_augmentation([entry])


@pytest.mark.parametrize("arguments", [{"pad": -1}, {"mode": "refelct"}])
def test_crop_refuses_values_that_it_can_not_use(arguments):
    with pytest.raises(UserError, match=r"data.augment: random_crop takes pad >= 0 and mode"):
        augmented(("random_crop", arguments))

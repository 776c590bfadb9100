"""Tests of the mixers and of test-time augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.data import make_augmentation
from jaxcnn.data.augment import make_views
from jaxcnn.errors import UserError

N, K = 8, 10
KEYS = [jax.random.key(seed) for seed in range(40)]
# Image i has the class i and the value i + 1 everywhere, so that each pixel identifies its image.
IMAGES = np.broadcast_to(np.arange(1.0, N + 1, dtype=np.float32)[:, None, None, None], (N, 12, 20, 3))
TARGETS = np.eye(N, K, dtype=np.float32)


def many(name, **settings):
    mix = jax.jit(make_augmentation([(name, settings)]).mix, compiler_options={"xla_backend_optimization_level": 0})
    return [tuple(np.asarray(x) for x in mix(jnp.asarray(IMAGES), jnp.asarray(TARGETS), key)) for key in KEYS]


def own_shares(targets):
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    own, other = np.diagonal(targets), targets[np.arange(N), (np.arange(N) - 1) % N]
    np.testing.assert_allclose(own + other, 1, atol=1e-6)
    return own


@pytest.mark.parametrize("per_example", [False, True])
def test_mixup_mixes_images_and_targets_by_one_weight(per_example):
    shares = []
    for images, targets in many("mixup", alpha=1.0, per_example=per_example):
        share = own_shares(targets)
        expected = share[:, None, None, None] * IMAGES + (1 - share[:, None, None, None]) * np.roll(IMAGES, 1, axis=0)
        np.testing.assert_allclose(images, expected, atol=1e-5)
        assert (len(np.unique(share.round(5))) == 1) is not per_example
        shares.append(share[0])
    assert abs(np.mean(shares) - 0.5) < 5 / np.sqrt(12 * len(KEYS))
    assert min(shares) < 0.25
    assert max(shares) > 0.75


def test_small_alpha_leaves_most_images_nearly_unchanged():
    shares = np.array([own_shares(targets)[0] for _, targets in many("mixup", alpha=0.05)])
    assert (np.minimum(shares, 1 - shares) < 0.05).mean() > 0.6


@pytest.mark.parametrize("per_example", [False, True])
def test_cutmix_targets_are_the_exact_shares_of_the_pixels(per_example):
    shares = []
    for images, targets in many("cutmix", per_example=per_example):
        own = images == IMAGES
        np.testing.assert_array_equal(images[~own], np.roll(IMAGES, 1, axis=0)[~own])
        np.testing.assert_allclose(own_shares(targets), own.mean(axis=(1, 2, 3)), atol=1e-6)
        for pasted in ~own[..., 0]:  # a box
            np.testing.assert_array_equal(pasted, pasted.any(axis=1)[:, None] & pasted.any(axis=0)[None])
        shares.append(own[0].mean())
        assert (len(np.unique(own.mean(axis=(1, 2, 3)))) == 1) is not per_example
    assert np.mean(shares) > 0.5  # boxes are clipped at the border
    assert min(shares) < 0.4
    assert max(shares) > 0.9


@pytest.mark.slow
def test_mixup_or_cutmix_applies_either_with_its_probability():
    kinds = []
    for images, targets in many("mixup_or_cutmix", mixup=1.0, switch=0.7):
        share = own_shares(targets)
        is_box = np.isin(images, np.arange(1, N + 1)).all()
        kinds.append(is_box)
        if is_box:
            np.testing.assert_allclose(share, (images == IMAGES).mean(axis=(1, 2, 3)), atol=1e-6)
        else:
            mean = share * np.arange(1, N + 1) + (1 - share) * np.roll(np.arange(1, N + 1), 1)
            np.testing.assert_allclose(images, np.broadcast_to(mean[:, None, None, None], images.shape), atol=1e-5)
    assert abs(sum(kinds) - 0.7 * len(KEYS)) < 5 * np.sqrt(0.21 * len(KEYS))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "mixup_or_cutmix"])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_repeated_images_are_never_mixed_with_themselves(name, first):
    """Each image occurs three times in a row. Mixed with its neighbor, two of three would be mixed with themselves."""
    image = np.arange(first, first + 8) // 3
    targets = np.eye(4, dtype=np.float32)[image]
    policy = make_augmentation([(name, {"per_example": True})], repeats=3)
    for key in KEYS[:5]:
        _, mixed = policy.mix(jnp.asarray(IMAGES), jnp.asarray(targets), key)
        own = np.asarray(mixed)[np.arange(8), image]
        other = np.asarray(mixed)[np.arange(8), image[(np.arange(8) - 3) % 8]]
        assert (image != image[(np.arange(8) - 3) % 8]).all()
        np.testing.assert_allclose(own + other, 1, atol=1e-6)


def test_mixing_uint8_gives_uint8():
    mix = make_augmentation(["mixup"]).mix
    images, targets = jax.eval_shape(mix, jnp.zeros((N, 4, 4, 3), jnp.uint8), jnp.asarray(TARGETS), KEYS[0])
    assert (images.dtype, targets.dtype) == (jnp.uint8, jnp.float32)


def test_mixes_is_true_for_mixers_only_and_calling_a_policy_does_not_mix():
    assert not make_augmentation([]).mixes
    assert not make_augmentation(["horizontal_flip"]).mixes
    policy = make_augmentation(["cutmix"])
    assert policy.mixes
    np.testing.assert_array_equal(policy(IMAGES, KEYS[0]), IMAGES)
    for one, other in zip(make_augmentation(["horizontal_flip"]).mix(IMAGES, TARGETS, KEYS[0]), (IMAGES, TARGETS), strict=True):
        np.testing.assert_array_equal(one, other)


RNG = np.random.default_rng(0)
VIEWED = RNG.integers(0, 256, (2, 9, 12, 3)).astype(np.uint8)


def test_views_of_airbench_are_the_image_and_two_shifts_each_mirrored():
    views = make_views((("shift", {"pixels": 1}), "horizontal_flip"))
    padded = np.pad(VIEWED, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = []
    for weight, images in ((0.25, VIEWED), (0.125, padded[:, :-2, :-2]), (0.125, padded[:, 2:, 2:])):
        expected += [(weight, images.tobytes()), (weight, images[:, :, ::-1].tobytes())]
    found = [(view.weight, np.asarray(view(jnp.asarray(VIEWED))).tobytes()) for view in views]
    assert sorted(found) == sorted(expected)
    # In the other order, mirror images are shifted in the same directions as the image.
    flipped = np.pad(VIEWED[:, :, ::-1], ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    views = make_views(("horizontal_flip", ("shift", {"pixels": 1})))
    other = {np.asarray(view(jnp.asarray(VIEWED))).tobytes() for view in views}
    assert {flipped[:, :-2, :-2].tobytes(), flipped[:, 2:, 2:].tobytes()} < other


def test_no_views_means_the_image_alone():
    (view,) = make_views(())
    assert view.weight == 1
    np.testing.assert_array_equal(view(VIEWED), VIEWED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "count", "shape"),
    [
        ("vertical_flip", 2, (2, 9, 12, 3)),
        (("shift", {"pixels": 2, "directions": "all"}), 9, (2, 9, 12, 3)),
        ("center_crop", 2, (2, 9, 12, 3)),
        (("scale", {"factor": 2.0}), 2, (2, 18, 24, 3)),
    ],
)
def test_views_have_weights_of_sum_one_and_the_image_first(entry, count, shape):
    views = make_views([entry])
    assert len(views) == len({np.asarray(view(jnp.asarray(VIEWED))).tobytes() for view in views}) == count
    assert sum(view.weight for view in views) == pytest.approx(1)
    np.testing.assert_array_equal(views[0](VIEWED), VIEWED)
    last = views[-1](jnp.asarray(VIEWED))
    assert (last.shape, last.dtype) == (shape, np.uint8)


def test_center_crop_enlarges_the_middle():
    x = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (1, 16, 16, 1))
    crop = make_views([("center_crop", {"share": 0.5})])[1]
    np.testing.assert_allclose(crop(x)[0, 0, 2:-2, 0], np.arange(4.75, 10.5, 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("vertical_flpi", 'no operation .vertical_flpi. .did you mean "vertical_flip"'),
        ("centre_crop", "'centre_crop' has been renamed to 'center_crop'$"),
        (("flip", {"axis": "vertical"}), "'flip' has been renamed to 'vertical_flip'$"),
        (("shift", {"pixels": 0}), "pixels: expected an int .* 1, got 0"),
    ],
)
def test_wrong_views_are_refused(entry, message):
    with pytest.raises(UserError, match=f"evaluate.views: .*{message}"):
        make_views([entry])

"""Tests that maps and boxes are transformed exactly as the pixels of their images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.data import make_augmentation
from jaxcnn.data.augment import geometry, one_of_many, policy, recipes

RNG = np.random.default_rng(0)
N, HEIGHT, WIDTH = 16, 24, 32
PLACES = {"index": np.arange(N, dtype=np.int32), "epoch": np.arange(N, dtype=np.int32) % 3}

NEAREST = [
    "horizontal_flip",
    ("vertical_flip", {"p": 0.7}),
    ("random_crop", {"pad": 3}),
    ("random_crop", {"pad": 5, "mode": "reflect"}),
    ("translate", {"share": 0.2, "interpolation": "nearest"}),
    ("rotate", {"degrees": 30, "interpolation": "nearest"}),
    ("scale", {"factor": (0.7, 1.5), "interpolation": "nearest"}),
    ("shear", {"slope": 0.3, "interpolation": "nearest"}),
    ("affine", {"degrees": 20, "translate": 0.1, "scale": (0.8, 1.2), "shear": 0.1, "interpolation": "nearest"}),
    ("auto_augment", {"policy": "imagenet", "fill": 0}),
    ("rand_augment", {"n": 2, "m": 9, "fill": 0}),
    ("trivial_augment", {"fill": 0}),
    "alternating_flip",
]
"""Operations that sample each pixel from a single pixel, with black outside the image."""
INTERPOLATING = [
    "rotate",
    ("affine", {"degrees": 20, "translate": 0.1, "scale": (0.8, 1.2), "shear": 0.1}),
    ("random_resized_crop", {"area": (0.2, 0.6), "size": (36, 40)}),
    ("random_resized_crop", {"area": (0.9, 1.0), "aspect": (0.5, 2.0), "interpolation": "cubic"}),
]
"""Operations that interpolate."""


@pytest.fixture
def geometry_alone(monkeypatch):
    """Removes the color operations from AutoAugment and similar policies, so that pixel values still encode classes."""
    names = ("Identity", *one_of_many._GEOMETRY)
    space = recipes.space
    monkeypatch.setattr(recipes, "space", lambda **settings: {n: s for n, s in space(**settings).items() if n in names})


def entries(policies):
    """Returns the policies as test parameters. Those that take seconds to compile are marked slow."""
    slow = [entry for entry in policies if not isinstance(entry, str) and ("_augment" in entry[0] or "resized" in entry[0])]
    return [pytest.param(entry, marks=[pytest.mark.slow] * (entry in slow)) for entry in policies]


def scenes():
    """Returns maps of 9 classes and VOID, and one or two boxes per image with their classes."""
    maps = RNG.choice([*range(9), 255], (N, HEIGHT, WIDTH)).astype(np.uint8)
    low = RNG.integers(0, [WIDTH - 12, HEIGHT - 12], (N, 2, 2))
    boxes = np.concatenate([low, low + RNG.integers(4, 12, (N, 2, 2))], axis=2).astype(np.float32)
    classes = RNG.integers(0, 3, (N, 2)).astype(np.int32)
    classes[::4, 1] = -1
    return maps, np.where(classes[..., None] < 0, 0, boxes).astype(np.float32), classes


MAPS, BOXES, CLASSES = scenes()
CENTERS = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1).astype(np.float32)


def moving(entries):
    """Returns the jitted function (images (N, H, W, C), key) -> (images, fields) of a policy."""
    augment = make_augmentation(entries)
    fields = {"map": MAPS, "boxes": BOXES, "classes": CLASSES, "label": np.arange(N, dtype=np.int32)}
    return jax.jit(
        lambda images, key: augment.with_fields(images, jax.tree.map(jnp.asarray, fields), key, run_key=key, **PLACES)
    )


def keys(many=4):
    return [jax.random.key(seed) for seed in range(many)]


def painted():
    """Returns images (N, H, W, 2) in which each channel is True inside one of the boxes."""
    x, y = CENTERS[..., 0], CENTERS[..., 1]
    inside = [(x > left) & (x < right) & (y > top) & (y < bottom) for left, top, right, bottom in BOXES.reshape(-1, 4).tolist()]
    return np.stack(inside).reshape(N, 2, HEIGHT, WIDTH).transpose(0, 2, 3, 1)


def hull(filled):
    """Returns x0, y0, x1, y1 of the smallest box around the filled pixels."""
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("entry", entries(NEAREST), ids=str)
def test_maps_and_boxes_move_as_pixels_that_encode_them(entry, geometry_alone):
    images = np.concatenate([np.where(MAPS == 255, 200, MAPS + 1)[..., None], painted()], axis=3).astype(np.uint8)
    outside = np.where(MAPS == 255, 200, MAPS + 1)
    function, several, gone, wide, changed = moving([entry]), "_augment" in str(entry), 0, 0, 0
    for key in keys():
        moved, fields = function(images, key)
        moved, fields = np.asarray(moved), jax.tree.map(np.asarray, fields)
        assert fields["map"].dtype == np.uint8
        expected = np.where(np.isin(moved[..., 0], (0, 200)), 255, moved[..., 0] - 1)
        reflected = isinstance(entry, tuple) and entry[1].get("mode") == "reflect"
        seen = fields["map"] != 255 if reflected else np.ones_like(MAPS, bool)
        np.testing.assert_array_equal(fields["map"][seen], expected[seen])
        assert seen.mean() > 0.5
        changed += (moved[..., 0] != outside).any(axis=(1, 2)).mean()
        for i, k in np.argwhere(CLASSES >= 0):
            filled = moved[i, :, :, 1 + k] > 0
            if fields["classes"][i, k] < 0:
                gone += 1
                assert reflected or filled.sum() < 0.5 * np.prod(BOXES[i, k, 2:] - BOXES[i, k, :2])
            elif not reflected:
                assert fields["classes"][i, k] == CLASSES[i, k]
                around, box = hull(filled), fields["boxes"][i, k]
                if several:  # a box that was clipped and then rotated is larger than its visible pixels
                    assert (around[:2] >= box[:2] - 2).all()
                    assert (around[2:] <= box[2:] + 2).all()
                    wide += (abs(around - box) > 2).any()
                else:
                    np.testing.assert_allclose(around, box, atol=1.5)
        nothing = fields["classes"] < 0
        assert (nothing >= (CLASSES < 0)).all()
        assert not fields["boxes"][nothing].any()
        np.testing.assert_array_equal(fields["label"], np.arange(N))
    assert changed > 0.5
    assert wide < 0.2 * (CLASSES >= 0).sum() * len(keys())
    assert gone < 0.4 * (CLASSES >= 0).sum() * len(keys())


@pytest.mark.parametrize("entry", entries(INTERPOLATING), ids=str)
def test_maps_and_boxes_move_as_interpolated_pixels_that_encode_their_positions(entry):
    images = np.broadcast_to(np.concatenate([CENTERS, np.ones_like(CENTERS[..., :1])], axis=2), (N, HEIGHT, WIDTH, 3))
    function = moving([entry])
    for key in keys():
        moved, fields = function(jnp.asarray(images) + 10, key)  # away from 0, where values are clipped
        place, fields = np.asarray(moved)[..., :2] - 10, jax.tree.map(np.asarray, fields)
        x, y = np.floor(place).astype(int).transpose(3, 0, 1, 2)
        near_edge = (abs(place - np.round(place)) < 0.01).any(axis=3)
        border = (place < 1.5).any(axis=3) | (x >= WIDTH - 2) | (y >= HEIGHT - 2)  # where interpolation distorts the ramps
        sure = ~near_edge & ~border
        assert sure.mean() > 0.3
        image = np.broadcast_to(np.arange(N)[:, None, None], sure.shape)
        np.testing.assert_array_equal(fields["map"][sure], MAPS[image[sure], y[sure], x[sure]])
        for i, k in np.argwhere(fields["classes"] >= 0):
            left, top, right, bottom = BOXES[i, k]
            inside = (place[i] > [left, top]).all(axis=2) & (place[i] < [right, bottom]).all(axis=2)
            np.testing.assert_allclose(hull(inside), fields["boxes"][i, k], atol=1.5)


@pytest.mark.slow
def test_boxes_are_the_hulls_of_corners_transformed_by_numpy_and_clipped_at_the_border():
    settings = {"degrees": 40.0, "translate": 0.5, "scale": (0.6, 1.6), "shear": 0.4}
    function = moving([("affine", settings)])
    for key in keys(5):
        drawn = geometry.draw_affine((N, HEIGHT, WIDTH, 3), jax.random.fold_in(key, 0), **settings)
        _, fields = function(jnp.zeros((N, HEIGHT, WIDTH, 1)), key)
        gone = 0
        for i, k in np.argwhere(CLASSES >= 0):
            inverse = np.linalg.inv(np.vstack([np.asarray(drawn[i], np.float64), [0, 0, 1]]))
            left, top, right, bottom = BOXES[i, k].tolist()
            corners = inverse @ np.array([[x, y, 1] for x in (left, right) for y in (top, bottom)]).T
            low, high = corners[:2].min(axis=1), corners[:2].max(axis=1)
            cut_low, cut_high = np.clip(low, 0, (WIDTH, HEIGHT)), np.clip(high, 0, (WIDTH, HEIGHT))
            share = np.prod(cut_high - cut_low) / np.prod(high - low)
            if abs(share - 0.25) < 1e-3:
                continue
            gone += share < 0.25
            expected = np.concatenate([cut_low, cut_high]) if share >= 0.25 else np.zeros(4)
            np.testing.assert_allclose(fields["boxes"][i, k], expected, atol=1e-3)
            assert fields["classes"][i, k] == (CLASSES[i, k] if share >= 0.25 else -1)
        assert 0 < gone < N


def test_flips_mirror_boxes_exactly():
    always = {"p": 1.0}
    _, fields = moving([("horizontal_flip", always)])(jnp.zeros((N, HEIGHT, WIDTH, 1)), jax.random.key(0))
    is_box = CLASSES >= 0
    np.testing.assert_array_equal(
        fields["boxes"][is_box], (np.array([WIDTH, 0, WIDTH, 0]) + BOXES * [-1, 1, -1, 1])[is_box][:, [2, 1, 0, 3]]
    )
    np.testing.assert_array_equal(fields["classes"], CLASSES)
    _, fields = moving([("vertical_flip", always)])(jnp.zeros((N, HEIGHT, WIDTH, 1)), jax.random.key(0))
    np.testing.assert_array_equal(
        fields["boxes"][is_box], (np.array([0, HEIGHT, 0, HEIGHT]) + BOXES * [1, -1, 1, -1])[is_box][:, [0, 3, 2, 1]]
    )


@pytest.mark.slow
def test_visible_share_of_a_box_is_that_after_all_operations():
    function, twice = moving([("translate", {"share": 0.4, "interpolation": "nearest"})] * 2), 0
    for key in keys(40):  # some boxes move out and back; lost pixels do not return
        moved, fields = function(jnp.asarray(painted()[:, :, :, :1], jnp.float32), key)
        left = np.asarray(moved)[..., 0].sum(axis=(1, 2)) / np.prod(BOXES[:, 0, 2:] - BOXES[:, 0, :2], axis=1)
        sure = abs(left - 0.25) > 1e-3
        np.testing.assert_array_equal((np.asarray(fields["classes"])[:, 0] >= 0)[sure], (left >= 0.25)[sure])
        twice += (left < 0.25).sum()
    assert twice > 20


@pytest.mark.parametrize("entry", entries([*NEAREST[:3], NEAREST[-2], *INTERPOLATING[:3]]), ids=str)
def test_pixels_are_bitwise_equal_to_those_without_fields(entry):
    augment, fields = make_augmentation([entry, "brightness"]), {"map": MAPS, "boxes": BOXES, "classes": CLASSES}

    @jax.jit
    def both(images, key):
        return augment.with_fields(images, jax.tree.map(jnp.asarray, fields), key)[0], augment(images, key)

    images = jnp.asarray(RNG.integers(0, 256, (N, HEIGHT, WIDTH, 3), dtype=np.uint8))
    found, expected = both(images, jax.random.key(3))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1


def test_an_operation_either_moves_maps_or_leaves_them_unchanged_or_is_refused():
    def outputs(name):
        augment, places = make_augmentation([name]), jax.tree.map(jnp.asarray, PLACES)
        key = jax.random.key(0)
        images = jnp.zeros((N, HEIGHT, WIDTH, 3), jnp.uint8)
        program = jax.make_jaxpr(lambda maps: augment.with_fields(images, {"map": maps}, key, run_key=key, **places)[1])
        (before,), (after,) = (variables for variables in (program(MAPS).jaxpr.invars, program(MAPS).jaxpr.outvars))
        return str(before), str(after)

    moving_modules = {geometry.__name__}
    for name, operation in (policy.OPERATIONS | policy.BY_EPOCH).items():
        if name == "aug_mix":
            continue
        before, after = outputs(name)
        moves = name in policy.GEOMETRIC or name in policy.BY_EPOCH
        assert (before != after) == moves, name
        assert moves or operation.__module__ not in moving_modules, name


@pytest.mark.slow
def test_eight_devices_give_the_same_fields():
    axis = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    augment = make_augmentation(["horizontal_flip", ("affine", {"degrees": 20})])
    fields = {"map": MAPS, "boxes": BOXES, "classes": CLASSES}
    images = RNG.integers(0, 256, (N, HEIGHT, WIDTH, 3), dtype=np.uint8)
    function = jax.jit(augment.with_fields)
    expected = function(images, fields, jax.random.key(0))
    found = function(*jax.device_put((images, fields), sharding), jax.random.key(0))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)

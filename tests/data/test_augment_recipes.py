"""Compares the published policies with Pillow on the same photograph at the strengths of the papers' code."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from jaxcnn.data import make_augmentation
from jaxcnn.data.augment import one_of_many, random_color, recipes
from jaxcnn.data.files import third_party_lines

MANY = 560
QUICKLY = {"xla_backend_optimization_level": 0}  # compiled in a third of the time
KEY = jax.random.key(0)
SIDE = 32
PHOTO = np.ascontiguousarray(load_sample_images().images[1][100 : 100 + SIDE, 300 : 300 + SIDE])
PICTURE = Image.fromarray(PHOTO)


def augmented(entry, many=MANY):
    return np.asarray(
        jax.jit(make_augmentation([entry]), compiler_options=QUICKLY)(
            jnp.asarray(np.broadcast_to(PHOTO, (many, *PHOTO.shape))), KEY
        )
    )


def moved(picture, matrix, fill=128):
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, fillcolor=(fill,) * 3)


def with_pillow(name, strength):
    """Returns Pillow's operation as a function of an image; the strength may be negative."""
    return {
        "Identity": lambda p: p,
        "ShearX": lambda p: moved(p, (1, strength, 0, 0, 1, 0)),
        "ShearY": lambda p: moved(p, (1, 0, 0, strength, 1, 0)),
        "TranslateX": lambda p: moved(p, (1, 0, strength, 0, 1, 0)),
        "TranslateY": lambda p: moved(p, (1, 0, 0, 0, 1, strength)),
        "Rotate": lambda p: p.rotate(strength, fillcolor=(128,) * 3),
        "Brightness": lambda p: ImageEnhance.Brightness(p).enhance(strength),
        "Color": lambda p: ImageEnhance.Color(p).enhance(strength),
        "Contrast": lambda p: ImageEnhance.Contrast(p).enhance(strength),
        "Sharpness": lambda p: ImageEnhance.Sharpness(p).enhance(strength),
        "Posterize": lambda p: ImageOps.posterize(p, strength),
        "Solarize": lambda p: ImageOps.solarize(p, strength),
        "AutoContrast": ImageOps.autocontrast,
        "Equalize": ImageOps.equalize,
        "Invert": ImageOps.invert,
    }[name]


def signed(name, strength):
    both = name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    return [(name, strength), (name, -strength)] if both and strength else [(name, strength)]


def nearest(found, candidates):
    """Returns the index of the candidate that each result equals up to rounding."""
    distances = np.stack([abs(found.astype(np.int16) - np.asarray(c, np.int16)).mean(axis=(1, 2, 3)) for c in candidates])
    assert (distances.min(axis=0) < 1).all()
    return distances.argmin(axis=0)


def assert_alike_probable(counts):
    expected = counts.sum() / len(counts)
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all(), counts


# The strengths of level 9 of 10 in efficientnet/autoaugment.py of tensorflow/tpu, with its 100 pixels of 224 scaled to 32.
RAND_AUGMENT_9 = {
    "Identity": 0, "AutoContrast": 0, "Equalize": 0, "Rotate": 27, "Solarize": 230, "Color": 1.72, "Posterize": 3,
    "Contrast": 1.72, "Brightness": 1.72, "Sharpness": 1.72, "ShearX": 0.27, "ShearY": 0.27, "TranslateX": 12,
    "TranslateY": 12,
}  # fmt: skip


def test_rand_augment_draws_the_14_operations_of_the_paper_uniformly_at_the_strength_of_the_reference():
    candidates = [pair for item in RAND_AUGMENT_9.items() for pair in signed(*item)]
    results = nearest(augmented(("rand_augment", {"n": 1, "m": 9})), [with_pillow(*pair)(PICTURE) for pair in candidates])
    names = [candidates[i][0] for i in results]
    assert_alike_probable(np.array([names.count(name) for name in RAND_AUGMENT_9]))
    assert len(set(results)) == len(candidates)  # both signs


@pytest.mark.parametrize(
    ("entry", "share"),
    [
        ("auto_augment", 10 / 32),
        (("auto_augment", {"policy": "imagenet"}), 150 / 331),
        ("rand_augment", 100 / 224),
        ("aug_mix", 1 / 3),
    ],
)
def test_translations_are_in_proportion_to_the_side_along_which_they_move(monkeypatch, entry, share):
    seen = []
    monkeypatch.setattr(recipes, "space", lambda **spans: seen.append(one_of_many.space(**spans)) or seen[-1])
    jax.eval_shape(make_augmentation([entry]), jax.ShapeDtypeStruct((2, 20, 60, 3), jnp.uint8), KEY)
    assert [seen[0][name].high for name in ("TranslateX", "TranslateY")] == pytest.approx([60 * share, 20 * share])


def test_rand_augment_applies_n_operations():
    once = [pair for item in RAND_AUGMENT_9.items() for pair in signed(*item)]
    twice = [with_pillow(*b)(with_pillow(*a)(PICTURE)) for a, b in itertools.product(once, once)]
    assert len(set(nearest(augmented(("rand_augment", {"n": 2, "m": 9}), 128), twice))) > 60


@pytest.mark.slow
def test_trivial_augment_draws_31_strengths_of_its_wide_ranges():
    space = {
        "Identity": lambda i: 0, "AutoContrast": lambda i: 0, "Equalize": lambda i: 0, "Rotate": lambda i: 135 * i / 30,
        "Solarize": lambda i: 256 - int(256 * i / 30), "Posterize": lambda i: 8 - int(6 * i / 30),
        **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), lambda i: 0.01 + 1.99 * i / 30),
        **dict.fromkeys(("ShearX", "ShearY"), lambda i: 0.99 * i / 30),
        **dict.fromkeys(("TranslateX", "TranslateY"), lambda i: int(32 * i / 30)),
    }  # fmt: skip
    candidates = [pair for name, at in space.items() for i in range(31) for pair in signed(name, at(i))]
    results = nearest(augmented("trivial_augment"), [with_pillow(*pair)(PICTURE) for pair in candidates])
    names = [candidates[i][0] for i in results]
    for name in (
        "Rotate",
        "Contrast",
        "ShearX",
        "TranslateY",
        "Equalize",
        "AutoContrast",
    ):  # weak operations look alike and are left out
        assert abs(names.count(name) - MANY / 14) < 5 * np.sqrt(MANY / 14)
    assert abs(np.mean([candidates[i][1] for i in results if candidates[i][0] == "Contrast"]) - 1.005) < 0.35


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "pixels"), [("cifar10", 10), ("imagenet", 150 / 331 * 32)])
def test_auto_augment_applies_the_sub_policies_of_its_table(policy, pixels):
    def strength(name, level):
        enhance = 0.1 + 0.18 * level
        return {
            "ShearX": 0.03 * level, "ShearY": 0.03 * level, "TranslateX": int(pixels * level / 10),
            "TranslateY": int(pixels * level / 10), "Rotate": 3 * level, "Posterize": 8 - int(0.4 * level),
            "Solarize": 256 - int(25.6 * level), "Brightness": enhance, "Color": enhance, "Contrast": enhance,
            "Sharpness": enhance,
        }.get(name, 0)  # fmt: skip

    pictures, probabilities = [], []
    for line in third_party_lines(f"autoaugment/{policy}.txt"):
        words = line.split()
        operations = [(name, float(p), 0 if level == "-" else int(level)) for name, p, level in (words[:3], words[3:])]
        choices = []
        for name, p, level in operations:
            options = signed(name, strength(name, level))
            choices.append([(("Identity", 0), 1 - p), *((option, p / len(options)) for option in options)])
        for (first, p), (second, q) in itertools.product(*choices):
            if p * q > 0:
                pictures.append(with_pillow(*second)(with_pillow(*first)(PICTURE)))
                probabilities.append(p * q / 25)
    assert sum(probabilities) == pytest.approx(1)
    results = nearest(augmented(("auto_augment", {"policy": policy})), pictures)
    # Several choices may give the same image, so their expected counts are added.
    same = nearest(np.stack([np.asarray(picture) for picture in pictures]), pictures)
    expected = MANY * np.bincount(same, probabilities, minlength=len(pictures))
    counts = np.bincount(same[results], minlength=len(pictures))
    assert (abs(counts - expected) < 5 * np.sqrt(expected + 1)).all()


def test_tables_of_auto_augment_have_25_sub_policies_of_two_operations():
    for policy, first in (("cifar10", "Invert 0.1 -  Contrast 0.2 6"), ("imagenet", "Posterize 0.4 8  Rotate 0.6 9")):
        lines = third_party_lines(f"autoaugment/{policy}.txt")
        assert lines[0] == first
        assert [len(line.split()) for line in lines] == [6] * 25


def test_aug_mix_interpolates_between_the_image_and_the_result_of_an_operation():
    found = augmented(("aug_mix", {"width": 1, "depth": 1, "severity": 2.0}), 256).astype(float) - PHOTO
    shares, rest = [], np.full(256, True)
    for other in (ImageOps.autocontrast(PICTURE), ImageOps.equalize(PICTURE), ImageOps.posterize(PICTURE, 4)):
        way = np.asarray(other, float) - PHOTO
        share = (found * way).sum(axis=(1, 2, 3)) / (way**2).sum()
        there = rest & (abs(found - share[:, None, None, None] * way).max(axis=(1, 2, 3)) < 2) & (share > 0.1)
        assert abs(there.sum() - 0.9 * 256 / 9) < 5 * np.sqrt(256 / 9)
        shares.append(share[there])
        rest &= ~there
    assert abs(np.concatenate(shares).mean() - 0.55) < 0.12  # uniform in 0.1…1
    assert np.concatenate(shares).max() < 1.01


def test_aug_mix_of_several_chains_keeps_images_that_no_chain_changes():
    gray = jnp.full((64, 16, 16, 3), 255, jnp.uint8)  # no operation makes white brighter, and the fill is black
    found = np.asarray(jax.jit(make_augmentation(["aug_mix"]), compiler_options=QUICKLY)(gray, KEY))
    assert found.std(axis=(1, 2, 3)).max() > 10
    assert found.mean() > 100


def test_three_augment_is_gray_solarized_or_blurred():
    found = augmented(("three_augment", {"jitter": 0.0}), 300)
    gray = (found == np.asarray(PICTURE.convert("L").convert("RGB"))).all(axis=(1, 2, 3))
    solarized = (found == np.asarray(ImageOps.solarize(PICTURE))).all(axis=(1, 2, 3))
    blurred = found[~gray & ~solarized].astype(float)
    assert_alike_probable(np.array([gray.sum(), solarized.sum(), len(blurred)]))
    assert (abs(blurred.mean(axis=(1, 2)) - PHOTO.mean(axis=(0, 1))) < 4).all()
    assert (blurred.std(axis=(1, 2)) <= PHOTO.std(axis=(0, 1)) + 0.5).all()


def test_color_jitter_draws_an_order_for_each_image(monkeypatch):
    monkeypatch.setattr(random_color, "_factor", lambda key, images, strength: jnp.full(images.shape[:1], 1 + strength))
    factors = {"brightness": 0.3, "contrast": 0.8, "saturation": 0.6}
    enhancers = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}
    candidates = []
    for order in itertools.permutations(factors):
        picture = PICTURE
        for name in order:
            picture = enhancers[name](picture).enhance(1 + factors[name])
        candidates.append(picture)
    assert len({picture.tobytes() for picture in candidates}) == 6
    results = nearest(augmented(("color_jitter", factors)), candidates)
    assert_alike_probable(np.bincount(results, minlength=6))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_random_strength_is_uniform_about_one(name):
    enhancer = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}
    images = np.broadcast_to(PHOTO, (MANY, *PHOTO.shape)).astype(np.float32) / 2 + 60  # nothing is clipped
    found = np.asarray(jax.jit(make_augmentation([(name, {"strength": 0.3})]))(jnp.asarray(images), KEY))
    middle = np.asarray(enhancer[name](Image.fromarray(images[0].astype(np.uint8))).enhance(0), np.float32)
    way = images[0] - middle
    factors = ((found - middle) * way).sum(axis=(1, 2, 3)) / (way**2).sum()
    assert factors.min() > 0.69
    assert factors.max() < 1.31
    assert abs(factors.mean() - 1) < 0.05
    assert abs(factors.std() - 0.6 / np.sqrt(12)) < 0.02


@pytest.mark.parametrize("name", ["grayscale", "solarize", "posterize", "equalize", "autocontrast", "invert", "gaussian_blur"])
def test_operations_with_a_probability_leave_the_other_images_unchanged(name):
    unchanged = (augmented((name, {"p": 0.3})) == PHOTO).all(axis=(1, 2, 3))
    assert abs(unchanged.sum() - 0.7 * MANY) < 5 * np.sqrt(0.21 * MANY) + (0.1 * MANY if name == "gaussian_blur" else 0)

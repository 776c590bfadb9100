"""The task segmentation: its metrics and predictions by independent definitions, and what it refuses."""

import dataclasses
import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common.map_scenes import COUNTS, example, write
from common.small_runs import quiet, small_config
from common.toy_tasks import write_scenes
from scipy import special

from jaxcnn import train
from jaxcnn.config import validate
from jaxcnn.data import make_augmentation
from jaxcnn.data.fields import VOID
from jaxcnn.errors import UserError
from jaxcnn.tasks.segmentation import pixel_counts
from jaxcnn.tasks.task import Keys
from jaxcnn.train.experiment import prepare


def config_of(path, name="unet", task="segmentation", arguments=None, **model):
    config = small_config(**{"data.name": "arrays", "data.root": str(path), "data.image_size": 0, "data.augment": ()})
    config.task.name, config.model.name = task, name
    config.task.arguments.update(arguments or {})
    config.model.arguments.update({"width": 2, "depth": 1, "padding": "same"} | model if name == "unet" else model)
    return validate(config)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    write_scenes(path := tmp_path_factory.mktemp("scenes") / "scenes.npz", examples=20)
    return path


@dataclasses.dataclass
class Brightness:
    """A "network" whose logits are those of a threshold on the first channel."""

    def apply(self, variables, images, *, train):
        return jnp.stack([jnp.full(images.shape[:3], 0.5), images[..., 0]], axis=-1)


class Contrast:
    """A "network" that compares each pixel with the mean of the image or window."""

    def apply(self, variables, images, *, train, xp=jnp):
        brightness = images.mean(axis=-1)
        difference = brightness - brightness.mean(axis=(1, 2), keepdims=True)
        return xp.stack([xp.zeros_like(difference), 4 * difference], axis=-1)


def test_metrics_are_those_of_all_pixels_that_are_not_void(scenes):
    task = dataclasses.replace(prepare(config_of(scenes)).task, model=Brightness())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 12, 16, 3)).astype(np.uint8)
    maps = rng.integers(0, 2, (5, 12, 16)).astype(np.uint8)
    maps[rng.random(maps.shape) < 0.2] = VOID
    tally = jax.tree.map(np.asarray, task.tally({}, {"image": images, "map": maps}))
    metrics = task.figures(tally, {})
    predicted = np.asarray(task.predict({}, {"image": images}))
    known = maps != VOID
    np.testing.assert_array_equal(predicted, np.asarray(task.preprocessing(images))[..., 0] > 0.5)
    assert metrics["pixel_accuracy"] == pytest.approx((predicted == maps)[known].mean())
    ious = [((predicted == k) & (maps == k)).sum() / (((predicted == k) | (maps == k)) & known).sum() for k in (0, 1)]
    assert metrics["mean_iou"] == pytest.approx(np.mean(ious))
    logits = np.stack([np.full(maps.shape, 0.5), np.asarray(task.preprocessing(images))[..., 0]], axis=-1).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p[known], maps[known][:, None].astype(int), axis=1).mean()
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["examples"] == 5


def test_predictions_are_averaged_over_scales_and_flips(scenes):
    task = prepare(config_of(scenes, arguments={"scales": (1.0, 2.0), "flip": True})).task
    task = dataclasses.replace(task, model=Brightness())
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    inputs = task.preprocessing(images)
    views = []
    for scale in (1, 2):
        for mirror in (False, True):
            scaled = jax.image.resize(inputs, (2, 12 * scale, 16 * scale, 3), "bilinear") if scale > 1 else inputs
            logits = Brightness().apply({}, scaled[:, :, ::-1] if mirror else scaled, train=False)
            logits = logits[:, :, ::-1] if mirror else logits
            logits = jax.image.resize(logits, (2, 12, 16, 2), "bilinear") if scale > 1 else logits
            views.append(np.asarray(jax.nn.softmax(logits)))
    np.testing.assert_array_equal(task.predict({}, {"image": images}), np.mean(views, axis=0).argmax(-1))


def test_inputs_have_pixels_and_maps_that_were_moved_and_mixed_alike(scenes):
    """Pixels encode their classes. Map i has the class i and void pixels, so that a map of several classes is a mixture."""
    numbers = np.broadcast_to(np.arange(8)[:, None, None], (8, 12, 16))
    maps = np.where(np.random.default_rng(0).random(numbers.shape) < 0.2, VOID, numbers).astype(np.uint8)
    index, key = np.arange(8, dtype=np.int32), jax.random.key(0)
    batch = {"image": np.repeat(maps[..., None], 3, axis=-1), "map": maps, "index": index, "epoch": 0 * index}
    policy = ("alternating_flip", "horizontal_flip", ("mosaic", {"p": 1.0}), ("copy_paste", {"p": 1.0}))
    task = dataclasses.replace(prepare(config_of(scenes)).task, augment=make_augmentation(policy))
    inputs = jax.jit(task.inputs, compiler_options={"xla_backend_optimization_level": 0})
    images, mixed = jax.tree.map(np.asarray, inputs(batch, Keys(key, key, key, key)))
    mean, std = np.array(task.preprocessing.mean), np.array(task.preprocessing.std)
    np.testing.assert_allclose(images, (mixed[..., None] / 255 - mean) / std, atol=1e-5)
    assert all(len(np.unique(values)) > 3 for values in mixed)


def test_windows_have_the_same_size_at_all_scales_and_are_mirrored_with_the_image(scenes):
    arguments = {"scales": (1.0, 2.0), "flip": True, "window": (8, 10), "stride": (8, 9)}
    task = dataclasses.replace(prepare(config_of(scenes, arguments=arguments)).task, model=Contrast())
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    inputs, views = task.preprocessing(images), []
    for scale, tops, lefts in ((1, (0, 4), (0, 6)), (2, (0, 8, 16), (0, 9, 18, 22))):
        size = (12 * scale, 16 * scale)
        scaled = np.asarray(jax.image.resize(inputs, (2, *size, 3), "bilinear") if scale > 1 else inputs)
        for mirror in (False, True):
            view, total, counts = scaled[:, :, ::-1] if mirror else scaled, np.zeros((2, *size, 2)), np.zeros((*size, 1))
            for top, left in itertools.product(tops, lefts):
                window = (slice(None), slice(top, top + 8), slice(left, left + 10))
                total[window] += special.softmax(Contrast().apply({}, view[window], train=False, xp=np), axis=-1)
                counts[window[1:]] += 1
            logits = np.log(total / counts)[:, :, :: -1 if mirror else 1].astype(np.float32)
            logits = np.asarray(jax.image.resize(logits, (2, 12, 16, 2), "bilinear")) if scale > 1 else logits
            views.append(special.softmax(logits, axis=-1))
    expected = np.mean(views, axis=0)
    tally = jax.jit(task.tally)({}, {"image": images, "map": expected.argmax(-1).astype(np.uint8)})
    np.testing.assert_array_equal(np.trace(tally["counts"], axis1=1, axis2=2), [12 * 16] * 2)
    np.testing.assert_allclose(tally["loss"], -np.log(expected.max(-1)).mean(axis=(1, 2)), rtol=1e-5)


def test_stride_is_two_thirds_of_the_window_by_default(scenes):
    task = dataclasses.replace(prepare(config_of(scenes)).task, model=Contrast(), window=(6, 8))
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    batch = {"image": images, "map": np.zeros((2, 12, 16), np.uint8)}
    loss, same, other = (
        jax.jit(dataclasses.replace(task, stride=stride).tally)({}, batch)["loss"] for stride in ((), (4, 5), (4, 6))
    )
    np.testing.assert_array_equal(loss, same)
    assert (loss != other).all()


def test_class_weights_balance_the_median_frequency(scenes):
    experiment = prepare(config_of(scenes, arguments={"class_weights": "median_frequency"}))
    counts = pixel_counts(experiment.dataset.train, 2)
    assert counts.sum() == np.prod(experiment.dataset.train.column("map").shape)
    frequencies = counts.sum(0) / counts.sum()
    weights = np.median(frequencies) / frequencies
    logits = jnp.zeros((1, 1, 2, 2)).at[0, 0, 0, 0].set(2.0)
    maps = jnp.array([[[0, 1]]], jnp.uint8)
    losses = np.array([np.log1p(np.exp(-2)), np.log(2)])
    assert experiment.task.loss(logits, maps) == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-5)


def test_description_has_the_shares_of_the_classes(scenes):
    task = prepare(config_of(scenes)).task
    output = np.zeros((4, 5), np.uint8)
    output[0] = 1
    assert task.describe(output) == {"classes": [{"name": "ground", "share": 0.75}, {"name": "thing", "share": 0.25}]}
    assert task.describe(output, 1)["classes"] == [{"name": "ground", "share": 0.75}]
    assert task.cells(np.zeros((4, 5), np.uint8)) == {"share(ground)": "1", "share(thing)": "0"}


def test_colors_of_the_classes_are_those_of_drawings_and_of_the_page(scenes, tmp_path):
    colors = ((128, 0, 0), (10, 200, 30))
    task = dataclasses.replace(prepare(config_of(scenes)).task, class_colors=colors)
    image, classes = np.full((12, 16, 3), 100, np.uint8), np.zeros((12, 16), np.uint8)
    classes[:, 8:] = 1
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    drawn = task.draw(classes, task.preprocessing.photo(tmp_path / "photo.png"))
    assert tuple(drawn) == task.drawings
    for k, column in ((0, 7), (1, 8)):
        np.testing.assert_allclose(drawn[""][0, column], 0.55 * 100 + 0.45 * np.array(colors[k]), atol=0.51)
        assert drawn["map"].convert("RGB").getpixel((column, 0)) == colors[k]
        assert tuple(drawn["outlines"][0, column]) == colors[k]
    counts = np.array([[[90, 6], [6, 90]]])
    tally = {"counts": counts, "small_map": classes[None], "small_prediction": classes[None]}
    *_, page = task.sections(tally, lambda index: image)
    assert all(f'fill="rgb({red},{green},{blue})"' in page for red, green, blue in colors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "lenet5"},
            r"^model.name: lenet5 is a network for classification, but task.name is segmentation, which needs",
        ),
        ({"task": "classification"}, r"^model.name: unet is a network for segmentation, but task.name is classification"),
        ({"arguments": {"losses": (("dise", 1.0),)}}, r'no segmentation loss "dise" \(did you mean "dice"\?\)'),
        ({"arguments": {"scales": (0.0,)}}, r"^task.arguments.scales: expected a list, each item a finite number above 0"),
        (
            {"arguments": {"window": (8,)}},
            r"^task.arguments.window: expected \(an int of at least 1, an int of at least 1\) or \(\), got",
        ),
        ({"arguments": {"stride": (4, 4)}}, r"^task.arguments.stride: has no effect without task.arguments.window$"),
        (
            {"arguments": {"window": (8, 8), "stride": (4, 9)}},
            r"^task.arguments.stride: expected at most the window, \(8, 8\), got \(4, 9\)$",
        ),
        ({"arguments": {"class_weights": "inverse"}}, r"^task.arguments.class_weights: expected one of none, median_frequency"),
    ],
)
def test_wrong_settings_are_refused(scenes, options, message):
    with pytest.raises(UserError, match=message):
        prepare(config_of(scenes, **options))


def test_empty_scales_are_refused(scenes):
    with pytest.raises(UserError, match=r"^task.arguments.scales: expected at least one scale"):
        prepare(config_of(scenes, arguments={"scales": ()}))


def test_data_set_with_only_void_is_refused(tmp_path):
    images, maps = np.zeros((20, 12, 16, 3), np.uint8), np.full((20, 12, 16), VOID, np.uint8)
    np.savez(tmp_path / "void.npz", images=images, map=maps, class_names=["ground", "thing"])
    with pytest.raises(UserError, match=r"^arrays: all pixels of the training set are void$"):
        prepare(config_of(tmp_path / "void.npz"))


# ── Folders of images and maps ──────────────────────────────────────────────────────────────────────────────────────


def folder_config(root, **changes):
    settings = {
        "task.name": "segmentation", "model.name": "unet", "model.arguments": {"width": 2, "depth": 1, "padding": "same"},
        "data.name": "maps", "data.root": str(root), "data.fit": "pad", "data.image_size": (32, 48), "data.validation": 0.1,
        "total": "4steps", "schedule.warmup": "0steps", "batch_size": 8, "evaluate.batch_size": 2,
    }  # fmt: skip
    return small_config(**settings | changes)


@pytest.mark.slow
def test_images_of_different_sizes_are_trained_on_counted_and_drawn(tmp_path):
    """The test set's counts are those of all pixels that have a class, in the maps as the network's input shows them."""
    root = write(tmp_path / "scenes")
    config = folder_config(root, **{"data.random_crop": ((0.5, 1.0), (0.8, 1.25)), "data.augment": ("horizontal_flip",)})
    summary = train.run(config, tmp_path / "run", console=quiet()[0])
    assert summary["test_examples"] == COUNTS["test"]
    trained = train.load_trained(tmp_path / "run")
    assert trained.class_names == ("sky", "road", "car")
    assert trained.task.class_colors == ((0, 0, 255), (128, 128, 128), (255, 0, 0))
    metrics = train.evaluate(trained)
    for other in (write(tmp_path / "moved"), write(tmp_path / "new", counts={"train": 1, "test": COUNTS["test"]})):
        np.testing.assert_equal(train.evaluate(trained, data_root=str(other)), metrics)
    image, values = example("test", 1)
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    (prediction,) = train.predict_each(trained, [tmp_path / "photo.png"])
    drawn = trained.task.draw(prediction.outputs, prediction.photo)
    assert (prediction.outputs == VOID).any()
    shares = [row["share"] for row in trained.task.describe(prediction.outputs)["classes"]]
    np.testing.assert_allclose(sum(shares), 1)  # of the photo, not of the padding
    assert drawn["map"].size == values.shape[::-1]
    np.testing.assert_array_equal(np.unique(drawn["map"]), np.unique(prediction.photo.map_to_photo(prediction.outputs)))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "rgb(128,128,128)" in page


def test_data_that_cannot_be_used_for_segmentation(tmp_path):
    root = write(tmp_path)
    wrong = {
        "data.fit: crop would evaluate only the centers of images; set it to pad or stretch": {"data.fit": "crop"},
        "task.name: segmentation needs the field 'map', but digits has label": {
            "data.name": "digits",
            "data.root": "",
            "data.fit": "crop",
        },
    }
    for expected, changes in wrong.items():
        with pytest.raises(UserError, match=expected):
            prepare(validate(folder_config(root, **changes)))
    for text, expected in (
        ("name,value\nsky,200\nroad,201\nvoid,0\nvoid,1\nvoid,2\nvoid,3\n", "maps: all pixels of the training set are void"),
        ("name,value\nsky,0\nsky,1\nsky,2\nsky,3\nroad,9\n", 'all pixels of the training set are "sky" or void; if the maps'),
    ):
        (root / "classes.csv").write_text(text)
        with pytest.raises(UserError, match=expected):
            prepare(validate(folder_config(root)))

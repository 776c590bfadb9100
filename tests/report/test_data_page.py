import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
from common.child_processes import experiment, finish
from common.html_page import Page

from jaxcnn import data
from jaxcnn.config import Config, changed
from jaxcnn.errors import UserError
from jaxcnn.report import data_findings, data_found, data_page, figures
from jaxcnn.tasks.classification import Classification
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.step import Update, make_train_step

REPOSITORY = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def config(**changes):
    return changed(Config(), {"batch_size": 8} | {f"data.{name}": value for name, value in changes.items()})


def pictures(root, names, many=6, suffix=".png"):
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(many):
            image = RNG.integers(0, 256, (*RNG.integers(40, 60, 2), 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f"{i}{suffix}"), image)
    return root


def arrays(path, shape=(9, 7, 3), many=(20, 6, 6), num_classes=3, **changes):
    made = {}
    for part, n in zip(("train", "val", "test"), many, strict=True):
        made[f"{part}_images"] = RNG.integers(0, 256, (n, *shape), dtype=np.uint8)
        made[f"{part}_labels"] = np.arange(n) % num_classes
    made |= changes
    np.savez(path, **made)
    return made


def page_of(found, path):
    data_page.write_data_page(path, found)
    page = Page(path.read_text(encoding="utf-8"))
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    assert "script" not in page.tags
    return page


def decoded(page):
    """Returns the PNG images on the page as RGB arrays."""
    sources = [load.split(",", 1)[1] for load in page.loads if load.startswith("data:image/png")]
    encoded = [np.frombuffer(base64.b64decode(source), np.uint8) for source in sources]
    return [cv2.imdecode(image, cv2.IMREAD_COLOR)[..., ::-1] for image in encoded]


# ── Examples as the trainer sees them ───────────────────────────────────────────────────────────────────────────────


class EnoughSeen(Exception):
    """Raised to end a training step once its input is known."""


def inputs_of_training(settings, source, order, preprocessing, augment, steps):
    """Returns the normalized inputs of the network in the first steps of a real training run, (steps × B, H, W, C)."""
    seen = []

    def recorded(images, augment):
        seen.append(np.asarray(preprocessing(images, augment)))
        raise EnoughSeen

    task = Classification(recorded, None, (), "multiclass", augment)
    step = make_train_step(task, Update({}, None))
    reader = data.make_reader(source, make_mesh(1), data.Reading())
    for number, batch in enumerate(reader(order, 0, settings.batch_size, [1] * steps)):
        with pytest.raises(EnoughSeen):
            step(SimpleNamespace(step=np.int32(number), seed=settings.seed), jax.tree.map(lambda array: array[0], batch))
    return np.concatenate(seen)


@pytest.mark.slow
@pytest.mark.parametrize("balanced", [False, True])
def test_examples_are_what_the_training_step_gets_at_their_places(tmp_path, balanced):
    pictures(tmp_path, "a", 12)
    pictures(tmp_path, "b", 4)
    settings = config(
        name="folder", root=str(tmp_path), random_crop=((0.3, 1.0), (0.75, 1.33)), test=0.25, image_size=24,
        augment=("horizontal_flip", ("random_crop", {"pad": 3}), "alternating_flip"), balanced=balanced,
    )  # fmt: skip
    dataset = data.load(settings.data, settings.seed)
    labels, size = dataset.train.labels, len(dataset.train)
    assert size % 8  # so that batches do not end with the epochs
    preprocessing = data.make_preprocessing(settings.data, dataset.train)
    augment = data.make_augmentation(settings.data.augment)
    examples = data_found.training_examples(dataset, preprocessing, augment, settings, count=4, times=2)
    order = data.BalancedOrder(labels, settings.seed) if balanced else data.Order(size, settings.seed)
    index_of = {dataset.train.name(i): i for i in range(size)}
    places = [np.flatnonzero(order[np.arange(20 * size)] == index_of[example.name])[:2] for example in examples]
    inputs = inputs_of_training(settings, dataset.train, order, preprocessing, augment, np.max(places) // 8 + 1)
    assert len({example.name for example in examples}) == 4
    for example, rows in zip(examples, places, strict=True):
        expected = 255 * (inputs[rows] * np.array(preprocessing.std) + np.array(preprocessing.mean))
        np.testing.assert_allclose(np.stack(example.trained), expected, atol=0.51)  # examples are rounded to uint8
        assert example.trained[0].tobytes() != example.trained[1].tobytes()


def test_stored_images_are_shown_unchanged_and_augmented_ones_as_the_policy_allows(tmp_path):
    made = arrays(tmp_path / "a.npz")
    found = data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz"), augment=("horizontal_flip",)))
    page = page_of(found, tmp_path / "page.html")
    sheet = np.stack(decoded(page)).reshape(8, 6, 9, 7, 3)  # no duplicates, so the sheet has the only PNGs
    for example, row in zip(found.examples, sheet, strict=True):
        source = made["train_images"][int(example.name.removeprefix("image "))]
        np.testing.assert_array_equal(row[0], source)
        assert example.label == str(made["train_labels"][int(example.name.removeprefix("image "))])
        for image in row[1:]:
            assert any(np.array_equal(image, either) for either in (source, source[:, ::-1]))
    assert {example.label for example in found.examples[:3]} == {"0", "1", "2"}  # one of each class first


def test_given_mean_and_std_are_used_and_the_measured_ones_shown(tmp_path):
    made = arrays(tmp_path / "a.npz")
    settings = config(name="arrays", root=str(tmp_path / "a.npz"), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    found = data_found.examine(settings)
    assert found.preprocessing.mean == (0.5, 0.5, 0.5)
    pixels = made["train_images"] / 255
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(found.std, pixels.std((0, 1, 2)))
    flags = re.search(r"--config.data.mean=(\S+) --config.data.std=(\S+)", data_findings.as_text(data_findings.findings(found)))
    np.testing.assert_allclose([float(v) for v in flags[1].split(",")], found.mean, rtol=1e-5)
    np.testing.assert_allclose([float(v) for v in flags[2].split(",")], found.std, rtol=1e-5)


# ── Findings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    """A folder with class and file names that contain markup, an image in train and test, copies, and unreadable files."""
    root = tmp_path_factory.mktemp("data")
    for part in ("train", "val", "test"):
        pictures(root / part, ["<b>&\"'", "a$x_{$"], suffix="<i>.png")
    first = (root / "train/a$x_{$/0<i>.png").read_bytes()
    (root / "test/<b>&\"'/overlap<i>.png").write_bytes(first)
    (root / "train/a$x_{$/copy<i>.png").write_bytes(first)
    (root / "train/a$x_{$/more.png").write_bytes((root / "train/a$x_{$/1<i>.png").read_bytes())
    (root / "train/a$x_{$/text<i>.png").write_text("no picture")
    (root / "train/a$x_{$/empty.png").touch()
    return root


@pytest.fixture(scope="module")
def found(bad_folder):
    return data_found.examine(config(name="folder", root=str(bad_folder), augment=("horizontal_flip",)))


@pytest.mark.slow
def test_overlap_is_reported_first_and_names_are_escaped(found, bad_folder, tmp_path):
    page = page_of(found, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert re.search(r'</h1>\s*<p class="wrong">1 image is in both train and test', text)
    assert "i" not in page.tags
    assert "b" not in page.tags
    for expected in (
        "train: train/a$x_{$/0<i>.png",
        "train: train/a$x_{$/copy<i>.png",
        "test: test/<b>&\"'/overlap<i>.png",
        "train: train/a$x_{$/more.png",
        "labels differ: <b>&\"', a$x_{$",
        "train/a$x_{$/text<i>.png",
        "not an image that can be decoded",
        "Train has 12 distinct images among 14",
        "2 images can't be read",
        "PNG, RGB: 39",
        "data.augment=('horizontal_flip',)",
        "measured on 16 training images resized to the network input",
    ):
        assert expected in page.text
    assert page.tags.count("svg") == 2  # classes, sizes


def test_examples_whose_names_begin_alike_are_shown_by_the_end_of_the_name(tmp_path):
    for path in pictures(tmp_path, ["a", "b"], many=15).glob("*/*.png"):
        path.rename(path.with_name(f"DSC_of_a_long_journey_{path.name}"))
    page = page_of(data_found.examine(config(name="folder", root=str(tmp_path))), tmp_path / "page.html")
    assert len(set(re.findall(r"…\w+_\d+\.png", page.text))) > 2


def test_rectangular_inputs_keep_their_proportions_and_state_the_order_of_the_sides(tmp_path):
    root = pictures(tmp_path / "photos", ["a", "b"], many=12)  # of 40 to 59 pixels
    found = data_found.examine(config(name="folder", root=str(root), image_size=(24, 48)))
    page = page_of(found, tmp_path / "page.html")
    assert "Input (H×W×C)24×48×3" in page.text
    sizes = [image.shape[:2] for image in found.inspection.readable]
    assert f"{sum(width < 48 for _, width in sizes)} images are smaller than the network input (48×24 pixels)" in page.text
    shown = re.findall(r'<img class=pixels width="(\d+)" height="(\d+)"', (tmp_path / "page.html").read_text())
    assert ("112", "56") in shown
    bars = figures.size_scatter(sizes, (24, 48)).axes[1].patches
    assert sum(bar.get_height() for bar in bars if bar.get_x() + bar.get_width() / 2 < 23.5) == sum(w < 48 for _, w in sizes)


def test_findings_are_plain_values_with_the_known_numbers(found):
    findings = json.loads(json.dumps(data_findings.findings(found)))
    assert findings["images"] == {"train": 16, "validation": 12, "test": 13}
    assert findings["classes"]["train"] == {"<b>&\"'": 6, "a$x_{$": 10}
    assert findings["overlap"] == {"train & test": 1}
    assert findings["contradicting"] == 1
    assert findings["readable"] == {"train": 14, "validation": 12, "test": 13}
    assert findings["distinct"] == {"train": 12, "validation": 12, "test": 13}
    assert [len(group) for group in findings["identical"]] == [3, 2]
    assert [file["reason"] for file in findings["unreadable"]] == ["the file is empty", "not an image that can be decoded"]
    shapes = [image.shape[:2] for image in found.inspection.readable]
    areas = sorted(h * w for h, w in shapes)
    for which, area in (("smallest", areas[0]), ("largest", areas[-1])):
        assert findings["sizes"][which]["width"] * findings["sizes"][which]["height"] == area
        height, width = cv2.imread(findings["sizes"][which]["name"]).shape[:2]
        assert (findings["sizes"][which]["width"], findings["sizes"][which]["height"]) == (width, height)
    text = data_findings.as_text(findings)
    assert "overlap: 1 image in both train and test" in text
    assert "duplicates: 2 copies within train; 1 image with different labels" in text
    assert "imbalanced: 1.7 times as many training images" in text


def test_imbalance_and_missing_classes_are_named(tmp_path):
    labels = {"train_labels": np.array([0] * 16 + [1] * 4), "test_labels": np.zeros(6, int)}
    labels["val_labels"] = np.arange(6) % 2
    arrays(tmp_path / "a.npz", **labels)
    text = data_findings.findings(data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz"))))["imbalance"]
    assert text.startswith('imbalanced: 4.0 times as many training images of "0" (16) as of "1" (4)')
    assert "always predicting the most frequent class gives 80.00% accuracy on the training set" in text
    assert "test has no image of 1" in text


def test_several_labels_per_image_and_two_channels(tmp_path):
    several = {f"{part}_labels": RNG.integers(0, 2, (n, 4)) for part, n in (("train", 20), ("val", 6), ("test", 6))}
    arrays(tmp_path / "a.npz", shape=(8, 8, 2), **several)
    found = data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz")))
    assert list(data_findings.findings(found)["classes"]["train"].values()) == several["train_labels"].sum(axis=0).tolist()
    page = page_of(found, tmp_path / "page.html")
    assert "All images are 8×8 pixels, width × height (2 channels: 32)." in page.text
    assert "No image is in more than one split (train, validation, test)." in page.text
    assert "No augmentation: " in page.text


@pytest.mark.parametrize(("num_classes", "named"), [(40, True), (41, False), (200, False)])
def test_bars_of_many_classes_are_sorted_and_have_no_names(num_classes, named):
    counts = {"train": np.arange(num_classes), "test": np.ones(num_classes, int)}
    names = [f"class {k}" for k in range(num_classes)]
    axes = figures.class_bars(counts, names).axes[0]
    assert ("class 3" in [label.get_text() for label in axes.get_yticklabels()]) == named
    lengths = [bar.get_width() if named else bar.get_height() for bar in axes.patches[:num_classes]]
    assert lengths == (list(range(num_classes)) if named else list(range(num_classes))[::-1])


def test_page_and_text_state_the_size_of_a_sample(tmp_path):
    found = data_found.examine(config(name="folder", root=str(pictures(tmp_path / "d", "ab", 20))), sample=10)
    page = page_of(found, tmp_path / "page.html")
    seen = len(found.inspection.seen)
    assert 8 <= seen <= 10
    assert f"is based on {seen} of them" in page.text
    assert f"examined: {seen} of them" in data_findings.as_text(data_findings.findings(found))


# ── The command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def show_data(*arguments, where):
    return finish(experiment("show_data.py", *arguments, cwd=where))


@pytest.mark.slow
@pytest.mark.process
def test_command_writes_page_and_numbers_for_the_embedded_digits(tmp_path):
    done = show_data(f"--config={REPOSITORY}/configs/lenet5_digits.py", "--json=found.json", where=tmp_path)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "data.html"
    assert "digits: 1,797 images" in done.out
    assert (tmp_path / "data.html").is_file()
    findings = json.loads((tmp_path / "found.json").read_text())
    assert sum(findings["images"].values()) == 1797
    assert f"--config.data.mean={findings['mean'][0]:.6g}" in done.out


@pytest.mark.process
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--out=nowhere/data.html", 'error: --out: no folder "nowhere"'),
        ("--config.data.root=nowhere", 'error: data.root: no file or folder "nowhere"'),
    ],
)
def test_mistake_ends_in_one_line_and_exit_code_2(tmp_path, argument, message):
    done = show_data(f"--config={REPOSITORY}/configs/folder.py", argument, where=tmp_path)
    assert done.code == 2
    assert done.err.startswith(message)
    assert done.err.count("\n") == 1


# ── Maps and boxes ──────────────────────────────────────────────────────────────────────────────────────────────────

SCENE_NAMES = ("<sky>", "road", "car")


def scenes(path, **changes):
    """Writes an .npz of random images of 9×12 pixels with a map and one box each; the box is class 2 in the map."""
    made = {"class_names": np.array(SCENE_NAMES)}
    for part, many in (("train", 12), ("val", 4), ("test", 4)):
        low = RNG.integers(0, [6, 4], (many, 2))
        boxes = np.concatenate([low, low + RNG.integers(3, 6, (many, 2))], axis=1)[:, None]
        maps = np.zeros((many, 9, 12), np.uint8)
        maps[:, 0] = 255
        for map_, ((x0, y0, x1, y1),) in zip(maps, boxes, strict=True):
            map_[y0:y1, x0:x1] = 2
        made |= {f"{part}_images": RNG.integers(0, 256, (many, 9, 12, 3), dtype=np.uint8)}
        made |= {f"{part}_map": maps, f"{part}_boxes": boxes, f"{part}_classes": np.full((many, 1), 2)}
    np.savez(path, **made | changes)
    return made | changes


def test_pixels_and_boxes_are_counted_per_class(tmp_path):
    made = scenes(tmp_path / "a.npz")
    found = data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz"), augment=("horizontal_flip",)))
    findings = json.loads(json.dumps(data_findings.findings(found)))
    assert findings["classes"] == {}
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        pixels = {SCENE_NAMES[k]: int((made[f"{name}_map"] == k).sum()) for k in range(3)}
        assert findings["targets"]["map"]["classes"][part] == pixels
        assert findings["targets"]["boxes"]["classes"][part] == {"<sky>": 0, "road": 0, "car": len(made[f"{name}_boxes"])}
    text = data_findings.as_text(findings)
    assert 'classes of maps (pixels): 3; imbalanced: no training pixel of "road"' in text
    share = (made["train_map"] == 0).sum() / (made["train_map"] != 255).sum()
    assert f"always predicting the most frequent class gives {share:.2%} accuracy on the training set" in text
    assert 'classes of boxes: 3; imbalanced: no training box of "<sky>", 12 of "car"' in text
    page = page_of(found, tmp_path / "page.html")
    assert "sky" not in page.tags
    assert "Classes of segmentation maps, in pixels" in page.text
    assert "Classes of bounding boxes" in page.text
    assert page.tags.count("svg") == 2


@pytest.mark.slow
@pytest.mark.parametrize("mixers", [(), ("cutmix", ("mosaic", {"p": 1.0}), ("copy_paste", {"p": 1.0}))])
def test_maps_and_boxes_of_the_examples_are_those_of_the_training_step(tmp_path, mixers):
    made = scenes(tmp_path / "a.npz")
    for part in ("train", "val", "test"):  # pixel values encode the map
        made[f"{part}_images"] = np.repeat(
            np.where(made[f"{part}_map"] == 255, 200, made[f"{part}_map"] * 10 + 10)[..., None], 3, 3
        )
        made[f"{part}_images"] = made[f"{part}_images"].astype(np.uint8)
    np.savez(tmp_path / "a.npz", **made)
    policy = ("horizontal_flip", ("random_crop", {"pad": 2}))
    found = data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz"), augment=(*policy, *mixers)))
    assert len(found.examples) == 8
    assert found.mixes == bool(mixers)
    for example in found.examples:
        assert example.label == ""
        images = [example.stored, example.evaluated, *example.trained]
        for image, targets in zip(images, example.targets, strict=True):
            values = image[..., 0]
            np.testing.assert_array_equal(targets["map"], np.where(np.isin(values, (0, 200)), 255, values // 10 - 1))
            if targets.get("classes", [-1])[0] == 2:
                x0, y0, x1, y1 = targets["boxes"][0].astype(int)
                assert (targets["map"][max(y0, 1) : y1, x0:x1] == 2)[1:].all()
        assert all(("boxes" in targets) != bool(mixers) for targets in example.targets[2:])
    # A single rectangle of cars moves as a whole, so that its rows are equal; mixtures have parts of several.
    cars = [targets["map"] == 2 for example in found.examples for targets in example.targets[2:]]
    rectangles = [(car == (car.any(axis=1)[:, None] & car.any(axis=0))).all() for car in cars]
    assert np.mean(rectangles) < 0.3 if mixers else all(rectangles)


def test_operations_that_mix_images_are_refused_if_they_are_defined_for_no_target_of_the_data_set(tmp_path):
    scenes(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"^data\.augment: mixup mixes images, which is not defined for maps and boxes; leave"):
        data_found.examine(config(name="arrays", root=str(tmp_path / "a.npz"), augment=("mixup",)))
    with pytest.raises(UserError, match=r"^data\.augment: mosaic needs maps, as in semantic segmentation; leave it out$"):
        data_found.examine(config(name="digits", augment=("mosaic",)))

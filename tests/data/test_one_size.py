"""Images of all sources are resized to one size, which may be a rectangle, and keep their aspect ratio by default."""

import cv2
import numpy as np
import pytest

from jaxcnn.config import changed, default_config
from jaxcnn.data import ArraySource, load, make_preprocessing, training_view
from jaxcnn.data.sources import Resized

HEIGHT, WIDTH = 48, 80


def coordinates(height, width):
    """Returns an image (H, W, 3) whose red channel is the row and whose green channel is the column."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def steps(image):
    """Returns by how many rows and columns of the original the pixels of the image are apart, measured in its middle."""
    height, width, _ = image.shape
    values = image.astype(float)
    rows = values[height // 4 : 3 * height // 4, width // 2, 0]
    columns = values[height // 2, width // 4 : 3 * width // 4, 1]
    return (rows[-1] - rows[0]) / (len(rows) - 1), (columns[-1] - columns[0]) / (len(columns) - 1)


def loaded(path, image, **changes):
    """Loads a folder that contains this image several times."""
    for index in range(12):
        file = path / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), image[..., ::-1])
    settings = {"name": "folder", "root": str(path), "image_size": (HEIGHT, WIDTH), "validation": 0.25, "test": 0.25} | changes
    return load(changed(default_config(), {f"data.{name}": value for name, value in settings.items()}).data, seed=0)


@pytest.mark.parametrize("interpolation", ["area", "bilinear"])
@pytest.mark.parametrize("shape", [(120, 250), (250, 120)])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_center_keeps_its_aspect_ratio_in_a_rectangle(tmp_path, shape, ratio, interpolation):
    dataset = loaded(tmp_path, coordinates(*shape), crop_ratio=ratio, interpolation=interpolation)
    for source in dataset.parts().values():
        assert source.read(0).shape == source.image_shape == (HEIGHT, WIDTH, 3)
        scale = ratio * min(shape[0] / HEIGHT, shape[1] / WIDTH)  # the largest rectangle of 48:80, and `ratio` of its sides
        assert steps(source.read(0)) == pytest.approx((scale, scale), rel=0.06)  # coordinates are integers
        middle = source.read(0)[HEIGHT // 2 - 1 : HEIGHT // 2 + 1, WIDTH // 2 - 1 : WIDTH // 2 + 1, :2].mean(axis=(0, 1))
        assert middle == pytest.approx(((shape[0] - 1) / 2, (shape[1] - 1) / 2), abs=1.5)


@pytest.mark.parametrize(("shape", "rows", "columns"), [((100, 300), 80 / 3, WIDTH), ((200, 100), HEIGHT, 24)])
def test_padded_image_is_complete_and_keeps_its_aspect_ratio_in_a_rectangle(tmp_path, shape, rows, columns):
    image = loaded(tmp_path, np.full((*shape, 3), 255, np.uint8), fit="pad").train.read(0)
    assert (image.max(axis=(1, 2)) > 127).sum() == pytest.approx(rows, abs=1)
    assert (image.max(axis=(0, 2)) > 127).sum() == pytest.approx(columns, abs=1)


def test_stretched_image_equals_that_of_opencv(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (120, 250, 3), np.uint8)
    expected = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(loaded(tmp_path, image, fit="stretch").test.read(0), expected)


@pytest.mark.parametrize("cache", ["off", "memory"])
def test_random_crops_are_stretched_as_often_as_they_are_compressed(tmp_path, cache):
    crop = ((0.3, 0.9), (0.8, 1.25))
    train = loaded(tmp_path, coordinates(250, 250), random_crop=crop, cache=cache).train
    down, across = np.array([steps(train.read(0, training_view(train, position))) for position in range(100)]).T
    distortion = across / down
    assert 0.75 < distortion.min() < 0.87
    assert 1.15 < distortion.max() < 1.33
    assert abs(np.log(distortion).mean()) < 0.04
    area = down * HEIGHT * across * WIDTH / 250**2
    assert 0.27 < area.min() < 0.4
    assert 0.6 < area.max() < 0.77  # 48:80 distorted by 0.8 is 3:4, which covers three quarters of a square


def test_random_crops_of_a_square_have_the_aspect_ratio_of_the_setting():
    image = coordinates(200, 200)
    source = Resized(ArraySource(image[None], np.zeros(1, np.int32)), (50, 50, 3), crop=((0.5, 0.5), (1.0, 1.0)))
    for position in range(5):
        assert steps(source.read(0, training_view(source, position))) == pytest.approx(
            [round(200 * 0.5**0.5) / 50] * 2, rel=0.04
        )


@pytest.mark.parametrize("name", ["folder", "csv", "arrays", "digits"])
def test_every_source_is_resized_to_height_and_width(tmp_path, name):
    root = tmp_path
    images = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)
    for index, image in enumerate(images):
        file = tmp_path / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), image)
    if name == "csv":
        root = tmp_path / "table.csv"
        rows = [f"class{index % 2}/{index}.png,class{index % 2}" for index in range(12)]
        root.write_text("\n".join(["path,label", *rows]))
    elif name == "arrays":
        root = tmp_path / "few.npz"
        labels = np.arange(12) % 2
        np.savez(root, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    settings = {
        "data.name": name,
        "data.root": "" if name == "digits" else str(root),
        "data.image_size": (32, 20),
        "data.validation": 0.0,
    } | ({} if name == "digits" else {"data.test": 0.25})
    config = changed(default_config(), settings).data
    dataset = load(config, seed=0)
    preprocessing = make_preprocessing(config, dataset.train)
    assert preprocessing.input_shape == (32, 20, 1 if name == "digits" else 3)
    assert preprocessing(dataset.test.read(0)[None]).shape == (1, *preprocessing.input_shape)


def test_prediction_reads_an_image_as_evaluation_does(tmp_path):
    dataset = loaded(tmp_path, coordinates(120, 250))
    config = changed(default_config(), {"data.image_size": (HEIGHT, WIDTH)}).data
    preprocessing = make_preprocessing(config, dataset.train)
    assert preprocessing.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(preprocessing.read(dataset.test.name(0)), dataset.test.read(0))


def test_default_size_is_a_square_of_about_the_median_shorter_side(tmp_path):
    assert loaded(tmp_path, coordinates(100, 250), image_size=0).train.image_shape == (96, 96, 3)

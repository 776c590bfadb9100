import types

import cv2
import jax
import numpy as np
import pytest

from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.train import predict_each, predict_files
from jaxcnn.train.experiment import make_mesh
from jaxcnn.train.predictions import BATCH


@pytest.fixture
def trained():
    """A network of two classes that knows grey from its mean: logits are (0, mean), of a picture 0 to 255. It counts calls."""
    shapes = []

    def predict(_, images):
        shapes.append(images.shape)
        mean = np.asarray(images[0], np.float32).mean(axis=(1, 2, 3))
        return np.stack([0 * mean, mean / 100], axis=1)

    preprocessing = Preprocessing((8, 8, 1), (8, 8), "bilinear", (0.5,), (0.5,))
    return types.SimpleNamespace(
        predict=lambda: predict, variables={}, preprocessing=preprocessing, class_names=("dark", "light"), task="multiclass",
        mesh=make_mesh(1), shapes=shapes,
    )  # fmt: skip


def picture(path, value):
    cv2.imwrite(str(path), np.full((8, 8), value, np.uint8))
    return path


def light(value):
    """The probability of the second class, from the formula."""
    return 1 / (1 + np.exp(-value / 100))


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 5])
def test_any_number_of_pictures_is_one_shape_of_batches_and_each_has_its_own_result(trained, tmp_path, count):
    files = [picture(tmp_path / f"{i}.png", i) for i in range(count)]
    results = list(predict_each(trained, files))
    assert set(trained.shapes) == {(1, BATCH, 8, 8, 1)}
    assert len(trained.shapes) == -(-count // BATCH)
    assert [file for file, _ in results] == list(map(str, files))
    np.testing.assert_allclose([row[1] for _, row in results], [light(i) for i in range(count)], rtol=1e-6)


def test_unreadable_pictures_are_named_in_their_place_and_take_none_of_the_others(trained, tmp_path):
    files = [picture(tmp_path / f"{i}.png", 5 * i) for i in range(40)]
    bad = [*range(16), 20, 39]  # a whole batch, one within, the last
    for i in bad:
        files[i].write_text("no picture")
    files.append(tmp_path / "missing.png")
    results = list(predict_each(trained, files))
    assert [i for i, (_, row) in enumerate(results) if isinstance(row, UserError)] == [*bad, 40]
    assert str(results[-1][1]).startswith(f"{tmp_path}/missing.png: can't be read")
    for i in set(range(40)) - set(bad):
        np.testing.assert_allclose(results[i][1][1], light(5 * i), rtol=1e-6)
    listed, unreadable = predict_files(trained, files)
    assert [result["file"] for result in listed] == [str(files[i]) for i in range(40) if i not in bad]
    assert [row["name"] for row in listed[-1]["classes"]] == ["light", "dark"]
    assert len(unreadable) == len(bad) + 1
    trained.shapes.clear()
    assert predict_files(trained, [tmp_path / "missing.png"])[0] == []
    assert not trained.shapes


def test_pictures_are_read_a_few_ahead_of_the_results_that_were_taken(trained, tmp_path):
    asked = []

    def files():
        for i in range(500):
            asked.append(i)
            yield picture(tmp_path / "one.png", 7)

    results = predict_each(trained, files())
    for _ in range(3):
        next(results)
    assert len(asked) <= 3 * BATCH
    results.close()


def test_batches_are_shared_by_the_devices(trained, tmp_path):
    trained.mesh = make_mesh(8)
    seen = []
    trained.predict = lambda: lambda _, images: seen.append(images) or np.zeros((images.shape[1], 2), np.float32)
    list(predict_each(trained, [picture(tmp_path / "one.png", 7)]))
    (images,) = seen
    assert len(images.sharding.device_set) == 8
    assert {shard.data.shape for shard in images.addressable_shards} == {(1, BATCH // 8, 8, 8, 1)}
    assert isinstance(images, jax.Array)

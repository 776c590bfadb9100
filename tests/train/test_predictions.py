import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.config import default_config
from jaxcnn.data import Preprocessing
from jaxcnn.evaluate import make_predict
from jaxcnn.tasks.classification import Classification
from jaxcnn.train import Trained, predict_each, predict_files
from jaxcnn.train.devices import make_mesh
from jaxcnn.train.predictions import BATCH


class Brightness(nn.Module):
    """A network with the logits (0, mean / 100), for gray images with values 0 to 255."""

    @nn.compact
    def __call__(self, images, *, train):
        mean = images.mean(axis=(1, 2, 3))
        return jnp.stack([0 * mean, mean / 100], axis=1)


@pytest.fixture
def batches(monkeypatch):
    """Records the images of each predicted batch."""
    seen = []

    def make(task, mesh):
        predict = make_predict(task, mesh)
        return lambda variables, batch: seen.append(batch["image"]) or predict(variables, batch)

    monkeypatch.setattr("jaxcnn.train.predictions.make_predict", make)
    return seen


def trained_on(devices=1):
    preprocessing = Preprocessing((8, 8, 1), (8, 8), "bilinear", (0.0,), (1 / 255,))
    task = Classification(preprocessing, Brightness(), ("dark", "light"), "multiclass")
    return Trained(task, {}, task.class_names, default_config(), 0, make_mesh(devices))


@pytest.fixture
def trained():
    return trained_on()


def picture(path, value):
    cv2.imwrite(str(path), np.full((8, 8), value, np.uint8))
    return path


def light(value):
    """Returns the probability of the second class, computed with the formula."""
    return 1 / (1 + np.exp(-value / 100))


def probability(trained, row):
    return trained.task.probabilities(row)[1]


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 5])
def test_batches_have_one_shape_for_any_number_of_images_and_results_match_their_images(trained, batches, tmp_path, count):
    files = [picture(tmp_path / f"{i}.png", i) for i in range(count)]
    results = list(predict_each(trained, files))
    assert [images.shape for images in batches] == [(1, BATCH, 8, 8, 1)] * -(-count // BATCH)
    assert [result.file for result in results] == list(map(str, files))
    np.testing.assert_allclose(
        [probability(trained, result.outputs) for result in results], [light(i) for i in range(count)], rtol=1e-6
    )


def test_unreadable_images_are_reported_in_order_and_do_not_affect_the_others(trained, batches, tmp_path):
    files = [picture(tmp_path / f"{i}.png", 5 * i) for i in range(40)]
    bad = [*range(16), 20, 39]  # a complete batch, one within a batch, and the last
    for i in bad:
        files[i].write_text("no picture")
    files.append(tmp_path / "missing.png")
    results = list(predict_each(trained, files))
    assert [i for i, result in enumerate(results) if result.error] == [*bad, 40]
    assert str(results[-1].error).startswith(f"{tmp_path}/missing.png: can't be read")
    for i in set(range(40)) - set(bad):
        assert probability(trained, results[i].outputs) == pytest.approx(light(5 * i), rel=1e-6)
    listed, unreadable = predict_files(trained, files)
    assert [result["file"] for result in listed] == [str(files[i]) for i in range(40) if i not in bad]
    assert [row["name"] for row in listed[-1]["classes"]] == ["light", "dark"]
    assert len(unreadable) == len(bad) + 1
    batches.clear()
    assert predict_files(trained, [tmp_path / "missing.png"])[0] == []
    assert not batches


def test_images_are_read_only_a_few_ahead_of_the_results(trained, tmp_path):
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


def test_batches_are_sharded_over_the_devices(batches, tmp_path):
    trained = trained_on(devices=8)
    (result,) = predict_each(trained, [picture(tmp_path / "one.png", 7)])
    assert probability(trained, result.outputs) == pytest.approx(light(7), rel=1e-6)
    (images,) = batches
    assert len(images.sharding.device_set) == 8
    assert {shard.data.shape for shard in images.addressable_shards} == {(1, BATCH // 8, 8, 8, 1)}
    assert isinstance(images, jax.Array)

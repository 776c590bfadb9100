"""Tests that evaluation covers exactly the given examples."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.data import ArraySource, Preprocessing, Reading, batches_once, make_reader, make_views
from jaxcnn.errors import RunFailed
from jaxcnn.evaluate import collect, finite, make_predict, make_tally, measure
from jaxcnn.tasks.classification import Classification
from jaxcnn.train.devices import make_mesh

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 6, 6, 1), dtype=np.uint8)
SOURCE = ArraySource(IMAGES, np.arange(11, dtype=np.int32))
PREPROCESSING = Preprocessing((6, 6, 1), (6, 6), "bilinear", (0.5,), (0.25,))


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(3)(images.reshape(len(images), -1))


def task(**fields):
    return Classification(PREPROCESSING, Linear(), ("a", "b", "c"), "multiclass", **fields)


@pytest.mark.parametrize(("batch_size", "devices"), [(4, 1), (16, 8)])
def test_logits_and_labels_are_those_of_exactly_the_examples(batch_size, devices):
    mesh, variables = make_mesh(devices), Linear().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), train=False)
    doubled = jax.tree.map(lambda x: 2 * x, variables)
    reader = make_reader(SOURCE, mesh, Reading("on"))
    batches = batches_once(reader, len(SOURCE), batch_size)
    one, two = collect(make_tally(task(), mesh), [variables, doubled], batches)
    np.testing.assert_array_equal(one["label"], SOURCE.labels)
    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"])
    expected = ((IMAGES / 255 - 0.5) / 0.25).reshape(11, -1) @ kernel
    np.testing.assert_allclose(one["logits"], expected, atol=1e-5)
    np.testing.assert_allclose(two["logits"], 2 * expected, atol=1e-5)


def test_views_average_the_logits_of_image_and_mirror():
    mesh, variables = make_mesh(1), Linear().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), train=False)
    predict, seen = (make_predict(task(views=views), mesh) for views in ((), tuple(make_views(("horizontal_flip",)))))
    plain, mirrored = (predict(variables, {"image": images[None]}) for images in (IMAGES, IMAGES[:, :, ::-1]))
    np.testing.assert_allclose(seen(variables, {"image": IMAGES[None]}), (plain + mirrored) / 2, atol=1e-6)


def test_evaluation_without_examples_raises_an_error():
    with pytest.raises(RunFailed, match="no examples"):
        measure(
            task(), lambda variables, batch: {"logits": np.zeros((2, 3))}, [{}], [lambda: [{"mask": np.zeros((1, 2), bool)}]]
        )


def test_metrics_for_json_have_no_nan_and_no_infinity():
    metrics = {"loss": float("nan"), "norm": -float("inf"), "accuracy": 0.5, "examples": 3, "missing": None}
    assert finite(metrics) == {"loss": None, "norm": None, "accuracy": 0.5, "examples": 3, "missing": None}

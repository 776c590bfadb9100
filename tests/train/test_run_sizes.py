"""Runs with changing image sizes."""

from typing import Any

import cv2
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from common.small_runs import TIMES, quiet, small_config

from jaxcnn import train
from jaxcnn.config import validate
from jaxcnn.errors import UserError
from jaxcnn.models import registry
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history

SEEN: list[tuple[int, int]] = []


class Tiny(nn.Module):
    """A network for any image size, which records the sizes with which it is traced in training."""

    width: int
    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, *, train):
        if train:
            SEEN.append(x.shape[1:3])
        x = nn.relu(nn.Conv(self.width, (3, 3), strides=2, dtype=self.dtype)(x)).mean((1, 2))
        return nn.Dense(self.num_classes)(x)


@pytest.fixture
def config(monkeypatch):
    """Returns a function that creates the config of a run with this model from changed settings."""
    monkeypatch.setitem(registry._VARIANTS, "tiny", registry.Variant(Tiny, {"width": 4}))
    SEEN.clear()
    tiny = {"model.name": "tiny", "total": "12steps", "batch_size": 32, "data.image_size": 16}
    tiny |= {"data.augment": ("horizontal_flip",)}
    return lambda **changes: small_config(**tiny | changes)


@pytest.mark.slow
def test_each_size_is_compiled_once_and_evaluation_and_prediction_use_theirs(config, tmp_path):
    sizes = {"data.sizes": ((12, 18), (16, 24), (20, 30)), "data.size_boundaries": ("5steps", "8steps")}
    summary = train.run(config(**sizes, **{"data.image_size": (16, 24)}), tmp_path / "run", console=quiet()[0])
    assert sorted(SEEN) == sorted(set(SEEN) | {(12, 18), (16, 24), (20, 30)})

    trained = train.load_trained(tmp_path / "run")
    assert trained.preprocessing.input_shape == (16, 24, 1)
    assert train.evaluate(trained)["test_accuracy"] == summary["test_accuracy"]
    picture = prepare(trained.config).dataset.test.read(0)
    cv2.imwrite(str(tmp_path / "digit.png"), picture)
    (found,), _ = train.predict_files(trained, [tmp_path / "digit.png"])
    logits = trained.task.model.apply(trained.variables, trained.preprocessing(picture[None]), train=False)
    assert found["classes"][0]["name"] == trained.class_names[int(np.argmax(logits))]


@pytest.mark.slow
def test_steps_per_call_do_not_change_a_run_with_random_sizes(config, tmp_path):
    histories = []
    for steps in (1, 5):
        changes = {"seed": 2, "data.sizes": (12, 20), "steps_per_dispatch": steps, "total": "30steps"}
        changes |= {"evaluate.every": "20steps", "checkpoint.every": "20steps"}
        SEEN.clear()
        train.run(config(**changes), tmp_path / str(steps), console=quiet()[0])
        assert sorted(SEEN) == [(12, 12), (20, 20)], "each size is traced once"
        histories.append(read_history(tmp_path / str(steps), pytest.fail))
    for row, expected in zip(*histories, strict=True):
        for name in row.keys() - TIMES:
            assert row[name] == pytest.approx(expected[name], rel=1e-4), (row["step"], name)


def test_invalid_sizes_are_refused(config):
    for changes, message in (
        ({"data.sizes": (0, 16)}, "data.sizes"),
        ({"data.sizes": (12, 16), "data.size_boundaries": ("1epochs", "2epochs")}, "expected 1 for 2 sizes, or none; got 2"),
        ({"data.sizes": (8, 12, 16), "data.size_boundaries": ("9steps", "9steps")}, "strictly increasing"),
        ({"data.sizes": (24, 32), "data.resize": "pad"}, "data.resize"),
        (
            {"data.image_size": (16, 24), "data.sizes": (12, 16)},
            r"12 is the side of a square.*16×24; .*\(8, 12\)",
        ),
        (
            {"data.image_size": (32, 48), "model.name": "highway10_32", "data.sizes": ((16, 24),)},
            "other parameters at 16×24 than",
        ),
        ({"model.name": "lenet5_relu", "data.sizes": (28, 32)}, "other parameters at 28×28 than at 16×16|too small"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(validate(config(**changes)))

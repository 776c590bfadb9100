"""The recipe of airbench94: its optimizer agrees with the formulas of the original, and a run on few images works."""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from common.muon_formulas import kernel_of, matrix, newton_schulz
from common.narrow_airbench import settings
from common.small_runs import quiet

from jaxcnn import train
from jaxcnn.command import load_config
from jaxcnn.config import changed, default_config
from jaxcnn.errors import UserError
from jaxcnn.models.airbench import whiten
from jaxcnn.train.experiment import prepare
from jaxcnn.train.optimizers import make_groups, make_optimizer
from jaxcnn.train.schedules import make_schedule

CONFIG = Path(__file__).parents[2] / "configs" / "airbench94.py"
RNG = np.random.default_rng(0)


def of_original(params, gradients, batch_size, rates, momentum, decays):
    """torch.optim.SGD with Nesterov momentum on the gradient of the summed loss, with one learning rate per step."""
    p, buffer = params.astype(np.float64), 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        g = batch_size * gradient.astype(np.float64) + decays * p
        buffer = momentum * buffer + g
        p = p - rate * (g + momentum * buffer)
    return p


def test_optimizer_equals_the_original_beyond_the_step_at_which_the_first_bias_stops():
    config = load_config(str(CONFIG))
    batch, total, first, steps = 2000, 200, 75, 78
    shapes = {
        "stem_conv": {"kernel": (2, 2, 3, 24), "bias": (24,)},
        "stage1_conv1": {"kernel": (3, 3, 4, 6)},
        "stage1_norm1": {"bias": (6,)},
        "head": {"kernel": (6, 10)},
    }
    params = jax.tree.map(lambda s: RNG.normal(size=s).astype(np.float32), shapes, is_leaf=lambda x: type(x) is tuple)
    gradients = [jax.tree.map(lambda p: RNG.normal(0, 1e-3, p.shape).astype(np.float32), params) for _ in range(steps)]

    def schedule(settings, peak):
        return make_schedule(settings, peak=peak, total_steps=total, batch_size=2000, examples_per_epoch=50_000)

    settings = config.optimizer
    groups = make_groups(settings, config.schedule, schedule)
    optimizer = make_optimizer(settings, schedule(config.schedule, settings.learning_rate), params, groups)
    state, found, update = optimizer.init(params), params, jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, found)
        found = optax.apply_updates(found, updates)

    def check(layer, name, rate, length):
        of_layer = [g[layer][name] for g in gradients[:length]]
        rates = [rate * (1 - step / length) for step in range(length)][:steps]
        expected = of_original(params[layer][name], of_layer[:steps], batch, rates, 0.85, 2e-6 * batch / rate)
        np.testing.assert_allclose(found[layer][name], expected, rtol=1e-4, atol=1e-4, err_msg=layer)

    check("stem_conv", "bias", 0.053, first)
    for layer, name, rate in (("stage1_norm1", "bias", 0.053), ("head", "kernel", 0.67)):
        rates = [rate * (1 - step / total) for step in range(steps)]
        expected = of_original(
            params[layer][name], [g[layer][name] for g in gradients], batch, rates, 0.85, 2e-6 * batch / rate
        )
        np.testing.assert_allclose(found[layer][name], expected, rtol=1e-4, atol=1e-4, err_msg=layer)
    np.testing.assert_array_equal(found["stem_conv"]["kernel"], params["stem_conv"]["kernel"])
    filters, buffer = matrix(params["stage1_conv1"]["kernel"]), 0.0
    for step, gradient in enumerate(gradients):
        g = batch * matrix(gradient["stage1_conv1"]["kernel"])
        buffer = 0.6 * buffer + g
        filters = filters * len(filters) ** 0.5 / np.linalg.norm(filters)
        filters = filters - 0.24 * (1 - step / total) * newton_schulz(g + 0.6 * buffer, 3)
    np.testing.assert_allclose(found["stage1_conv1"]["kernel"], kernel_of(filters, (3, 3, 4, 6)), atol=1e-4)


def test_variant_for_gpus_computes_in_bfloat16_and_unknown_ones_are_refused():
    config = load_config(f"{CONFIG}:bfloat16")
    assert config.model.dtype == config.optimizer.muon_dtype == "bfloat16"
    with pytest.raises(UserError, match=r"airbench94\.py:float16: expected \"float32\" or \"bfloat16\""):
        load_config(f"{CONFIG}:float16")


@pytest.fixture
def few(tmp_path):
    return changed(load_config(str(CONFIG)), settings(tmp_path))


@pytest.mark.slow
def test_whitening_filters_are_computed_from_the_first_images_and_kept(few, tmp_path):
    images = np.load(few.data.root)["train_images"][:50]
    expected = whiten((images / 255 - np.array(few.data.mean)) / np.array(few.data.std))
    summary = train.run(few, tmp_path / "run", console=quiet()[0])
    params = train.load_trained(tmp_path / "run").variables["params"]
    np.testing.assert_allclose(params["stem_conv"]["kernel"], expected, rtol=1e-3, atol=1e-4)
    start = prepare(few).initial_state().variables["params"]
    np.testing.assert_array_equal(params["stem_conv"]["kernel"], start["stem_conv"]["kernel"])
    assert (params["stem_conv"]["bias"] != start["stem_conv"]["bias"]).all()
    for part in ("initial", "training", "test"):
        assert 0 < summary[f"{part}_seconds"] < summary["wall_seconds"] - summary["compile_seconds"]


def test_only_the_first_layer_is_independent_of_the_seed(few):
    one, other = (prepare(changed(few, {"seed": seed})).initial_state().variables["params"] for seed in (0, 1))
    np.testing.assert_array_equal(one["stem_conv"]["kernel"], other["stem_conv"]["kernel"])
    for layer, name in (("stem_conv", "bias"), ("head", "kernel")):
        assert (one[layer][name] != other[layer][name]).any(), layer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "lenet5", "model.whiten": 10}, "model.whiten: the first layer of lenet5 is not a whitening layer"),
        (
            {"model.name": "common.narrow_airbench:Narrow", "model.whiten": 1_438},
            "model.whiten: 1,438 images are needed, but the training set has 1,293",
        ),
    ],
)
def test_impossible_whitening_is_refused(changes, message):
    base = {"data.image_size": 32, "devices": 1}
    with pytest.raises(UserError, match=f"^{message}"):
        prepare(changed(default_config(), base | changes))

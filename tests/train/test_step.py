"""The training step gives the same results for any number of devices, steps per call and parts of a batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common.small_runs import small_config

from jaxcnn import layers
from jaxcnn.config import validate
from jaxcnn.data import Preprocessing, make_augmentation
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.losses import softmax_cross_entropy
from jaxcnn.tasks.task import init_network
from jaxcnn.train.devices import make_mesh, replicated
from jaxcnn.train.experiment import prepare
from jaxcnn.train.step import Update, init_state, make_train_step
from jaxcnn.train.steps import jit_loop, jit_steps

BATCH, STEPS = 16, 8
POLICY = ("horizontal_flip", ("random_crop", {"pad": 1}))


class Net(nn.Module):
    """A minimal network with batch norm and dropout, which make steps differ."""

    norm: bool = True
    drop: float = 0.0
    dtype: jnp.dtype = jnp.dtype(jnp.float32)

    @nn.compact
    def __call__(self, images, *, train):
        x = layers.conv(8, 3, dtype=self.dtype, name="conv")(images)
        if self.norm:
            x = layers.BatchNorm(use_running_average=not train, dtype=self.dtype, name="norm")(x)
        x = nn.relu(x).mean(axis=(1, 2)).astype(jnp.float32)
        x = nn.Dropout(self.drop, deterministic=not train)(x)
        return nn.Dense(4, name="head")(x)


class NetWithAuxiliaryHead(nn.Module):
    """A classifier of the mean color, with an auxiliary classifier of the same input."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.mean(axis=(1, 2))
        auxiliary = nn.Dense(4, name="auxiliary")(x)
        if train:
            self.sow("auxiliary", "aux", auxiliary)
        return nn.Dense(4, name="head")(x)


@pytest.fixture(scope="module")
def batches():
    """STEPS batches of colored noise whose brightness depends on the label: (STEPS, BATCH, …)."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (STEPS, BATCH)).astype(np.int32)
    images = generator.integers(0, 64, (STEPS, BATCH, 6, 6, 3)) + 48 * labels[..., None, None, None]
    return {"image": images.astype(np.uint8), "label": labels, "mask": np.ones((STEPS, BATCH), bool)}


def train(
    model,
    batches,
    *,
    steps=STEPS,
    devices=1,
    per_call=1,
    optimizer=None,
    ema=0.0,
    policy=POLICY,
    loop=False,
    room=0,
    auxiliary_weight=0.0,
    **settings,
):
    """Returns (final state, losses of all steps) of training `model` on the first `steps` batches."""
    mesh, optimizer = make_mesh(devices), optimizer or optax.sgd(0.1, 0.9)
    preprocessing = Preprocessing((6, 6, 3), (6, 6), "bilinear", (0.5,) * 3, (0.25,) * 3)
    task = Classification(
        preprocessing,
        model,
        ("a", "b", "c", "d"),
        "multiclass",
        make_augmentation(policy),
        loss=lambda logits, labels: softmax_cross_entropy(logits, labels).mean(),
        auxiliary_weight=auxiliary_weight,
    )
    update = Update({task.phases[0]: optimizer}, optax.constant_schedule(0.1), ema, **settings)
    variables = task.init(jax.random.key(0))
    state = jax.device_put(init_state(variables, 0, update), replicated(mesh))
    step = make_train_step(task, update, unroll=not loop)
    call, losses = (jit_loop if loop else jit_steps)(step, mesh), []
    for start in range(0, steps, per_call):
        count = min(per_call, steps - start)
        call_batches = jax.tree.map(lambda x: x[start : start + count], batches)  # noqa: B023
        if loop:  # padding, which is never read
            call_batches = jax.tree.map(
                lambda x: np.concatenate([x, np.full_like(x[:1], 1).repeat(room - len(x), 0)]), call_batches
            )
        state, metrics = call(state, np.int32(count), call_batches) if loop else call(state, call_batches)
        losses.append(np.asarray(metrics["loss"]))  # waits, which virtual devices need
        assert not losses[-1][count:].any()
        losses[-1] = losses[-1][:count]
    assert call._cache_size() == 1 if loop else True, "one program for all counts"
    return state, np.concatenate(losses)


def assert_close(one, other, tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), one, other)


def test_eight_devices_give_the_losses_and_statistics_of_one(batches):
    state, losses = train(Net(drop=0.3), batches, devices=1)
    sharded, sharded_losses = train(Net(drop=0.3), batches, devices=8)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(sharded_losses, losses, atol=1e-5)
    assert_close(sharded.variables["batch_stats"], state.variables["batch_stats"], 1e-5)  # batch norm saw the global batch
    assert_close(sharded.variables["params"], state.variables["params"], 1e-4)


def test_frozen_layers_keep_parameters_and_statistics_and_cost_no_gradient(batches):
    """Frozen batch norm computes the same in training and evaluation, so the head receives the same features in both."""
    frozen = frozenset({"conv/kernel", "norm/scale", "norm/bias"})
    start = init_network(Net(), (6, 6, 3), jax.random.key(0))
    state, losses = train(Net(), batches, frozen=frozen)
    assert losses[-1] < losses[0]
    jax.tree.map(np.testing.assert_array_equal, state.variables["batch_stats"], start["batch_stats"])
    for layer in ("conv", "norm"):
        jax.tree.map(np.testing.assert_array_equal, state.variables["params"][layer], start["params"][layer])
    assert (np.asarray(state.variables["params"]["head"]["kernel"]) != start["params"]["head"]["kernel"]).all()
    thawed, _ = train(Net(), batches, frozen=frozenset({"conv/kernel", "norm/scale"}))  # not all parameters of the norm
    assert (np.asarray(thawed.variables["batch_stats"]["norm"]["mean"]) != start["batch_stats"]["norm"]["mean"]).all()


@pytest.mark.parametrize(
    "how",
    [{"per_call": 4}, {"per_call": 4, "loop": True, "room": 4}, {"per_call": 3, "loop": True, "room": 5}],
    ids=["unrolled", "in a loop, as on accelerators", "in a loop with room to spare, calls of several lengths"],
)
def test_many_steps_in_one_call_equal_single_steps(batches, how):
    state, losses = train(Net(drop=0.3), batches, per_call=1)
    together, together_losses = train(Net(drop=0.3), batches, **how)
    np.testing.assert_allclose(together_losses, losses, rtol=1e-6)
    assert_close(together.variables["params"], state.variables["params"], 1e-6)
    assert int(together.step) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"loop": True, "room": 1}], ids=["unrolled", "scanned, as on accelerators"])
def test_accumulated_gradient_equals_that_of_the_full_batch(batches, how):
    full, losses = train(Net(norm=False), batches)
    parts, parts_losses = train(Net(norm=False), batches, accumulate=4, **how)
    np.testing.assert_allclose(parts_losses, losses, rtol=1e-5)
    assert_close(parts.variables["params"], full.variables["params"], 1e-5)


@pytest.mark.slow
def test_ema_is_the_decayed_sum_of_all_parameters_and_statistics(batches):
    initial = init_network(Net(), (6, 6, 3), jax.random.key(0))
    first, _ = train(Net(), batches, ema=0.15, steps=1)
    assert_close(first.ema, jax.tree.map(lambda e, v: 0.1 * e + 0.9 * v, initial, first.variables), 1e-6)  # 1 / 10
    second, _ = train(Net(), batches, ema=0.15, steps=2)  # less than 2 / 11
    assert_close(second.ema, jax.tree.map(lambda e, v: 0.15 * e + 0.85 * v, first.ema, second.variables), 1e-6)
    plain, _ = train(Net(), batches, steps=2)
    assert_close(second.variables, plain.variables, 0)


@pytest.mark.slow
def test_auxiliary_loss_is_weighted_and_trains_only_its_head(batches):
    initial = init_network(NetWithAuxiliaryHead(), (6, 6, 3), jax.random.key(0))
    (off, off_losses), (on, on_losses), (twice, twice_losses) = (
        train(NetWithAuxiliaryHead(), batches, steps=1, auxiliary_weight=weight) for weight in (0.0, 0.3, 0.6)
    )
    np.testing.assert_allclose(twice_losses - off_losses, 2 * (on_losses - off_losses), rtol=1e-4)
    assert on_losses[0] > off_losses[0]
    assert_close(on.variables["params"]["head"], off.variables["params"]["head"], 0)
    assert_close(off.variables["params"]["auxiliary"], initial["params"]["auxiliary"], 0)
    trained, trained_twice = (state.variables["params"]["auxiliary"] for state in (on, twice))
    moved, moved_twice = (
        jax.tree.map(lambda p, q: p - q, params, initial["params"]["auxiliary"]) for params in (trained, trained_twice)
    )
    assert_close(moved_twice, jax.tree.map(lambda m: 2 * m, moved), 1e-6)
    assert np.abs(moved["kernel"]).max() > 1e-3


@pytest.mark.slow
def test_bfloat16_network_keeps_float32_parameters(batches):
    state, losses = train(Net(dtype=jnp.dtype(jnp.bfloat16)), batches)
    _, exact = train(Net(), batches)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(losses, exact, rtol=0.05)
    assert (losses != exact).any()


def test_steps_draw_different_augmentation_but_the_same_when_repeated(batches):
    same = jax.tree.map(lambda x: np.repeat(x[:1], STEPS, axis=0), batches)
    frozen = optax.set_to_zero()
    _, losses = train(Net(norm=False), same, optimizer=frozen)
    _, again = train(Net(norm=False), same, optimizer=frozen)
    assert len(np.unique(losses)) > STEPS // 2  # parameters do not change, so only the key of the step differs
    np.testing.assert_array_equal(losses, again)


def test_runs_of_two_seeds_are_the_same_program():
    texts, keys = [], []
    for seed in (0, 1):
        experiment = prepare(validate(small_config(seed=seed, **{"data.mean": (0.3,), "data.std": (0.4,)})))
        step, state = experiment.train_step(), experiment.initial_state()
        batch = next(experiment.reader(experiment.dataset.train)(experiment.order(), 0, 64, [1]))
        texts.append(jit_steps(step, experiment.mesh).lower(state, batch).as_text())
        keys.append(state.seed)
    assert texts[0] == texts[1]
    assert keys == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("policy", [("mixup",), ("cutmix",), ("alternating_flip", ("cutout", {"size": 2}), "mixup_or_cutmix")])
def test_step_trains_on_mixtures_and_by_epoch_on_any_number_of_devices(batches, policy):
    examples = batches | {"index": np.tile(np.arange(BATCH), (STEPS, 1)), "epoch": np.arange(STEPS)[:, None].repeat(BATCH, 1)}
    state, losses = train(Net(norm=False), examples, policy=policy)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    _, sharded = train(Net(norm=False), examples, policy=policy, devices=8)
    np.testing.assert_allclose(sharded, losses, atol=1e-5)
    _, plain = train(Net(norm=False), examples, policy=())
    assert (losses != plain).any()
    del state

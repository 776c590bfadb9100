"""Many steps a call: nothing travels but indices, the state's memory is used again, and nobody waits before a row is due."""

import jax
import numpy as np
import pytest
from common.small_runs import quiet, small_config

from jaxcnn import train
from jaxcnn.config import validate
from jaxcnn.data.sizes import ONE_SIZE
from jaxcnn.train import dispatch
from jaxcnn.train.experiment import prepare
from jaxcnn.train.step import jit_steps

STEPS = 3  # a call


@pytest.fixture(scope="module")
def experiment():
    augment = ("alternating_flip", ("random_crop", {"pad": 2, "mode": "reflect"}))
    changes = {"data.resident": "on", "batch_size": 8, "ema.decay": 0.9, "data.augment": augment}
    return prepare(validate(small_config(**changes)))


def batches_of(experiment, calls):
    read = experiment.reader(experiment.dataset.train)
    return read(experiment.order(), 0, experiment.config.batch_size, [STEPS] * calls)


@pytest.fixture(scope="module")
def steps(experiment):
    """STEPS steps in one call, by lax.scan as on accelerators, compiled."""
    jitted = jit_steps(experiment.train_step(), experiment.mesh, unroll=False)
    return jitted.lower(experiment.initial_state(), next(batches_of(experiment, 1))).compile()


@pytest.mark.slow
def test_calls_need_no_transfer_and_batches_that_of_their_indices_alone(experiment, steps):
    state, batches = experiment.initial_state(), batches_of(experiment, 4)
    metrics = []
    for _ in range(4):
        with jax.transfer_guard("disallow"):  # but what is asked for: device_put
            batch = next(batches)
        with jax.transfer_guard("disallow_explicit"):  # nothing
            state, of_call = steps(state, batch)
            metrics.append(of_call["loss"])
    assert int(state.step) == 4 * STEPS
    assert np.isfinite(np.concatenate(metrics)).all()
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device"):
        steps(state, jax.tree.map(np.asarray, batch))  # the guard guards


def test_one_call_is_one_loop_that_asks_the_host_for_nothing(steps):
    text = steps.as_text()
    assert f'"known_trip_count":{{"n":"{STEPS}"}}' in text
    for word in ("infeed", "outfeed", "callback", "send(", "recv("):
        assert word not in text, word


@pytest.mark.parametrize(
    ("total", "intervals", "calls"),
    [
        (200, (25, 200), [25] * 8),  # a row an epoch is no reason to make single steps
        (100, (50, 100), [32, *[1] * 18] * 2),
        (70, (100, 1000), [32, 32, *[1] * 6]),
        (3, (1, 3), [1, 1, 1]),
    ],
)
def test_calls_end_where_rows_are_due(total, intervals, calls):
    assert list(dispatch.plan(0, total, 32, intervals, ONE_SIZE)) == calls


def test_state_is_donated_and_the_batch_is_not(experiment, steps):
    state, batch = experiment.initial_state(), next(batches_of(experiment, 1))
    new, _ = steps(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, batch)))
    assert steps.memory_analysis().alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves(new))


@pytest.mark.slow
def test_metrics_are_read_when_a_row_is_due_and_not_before(monkeypatch, tmp_path):
    calls, read_at = [], []

    class Late:
        """A metric that knows when it is read, which means to wait for its step."""

        def __init__(self, value):
            self.value = value

        def __array__(self, *arguments, **named):
            read_at.append(len(calls))
            return np.asarray(self.value)

    class Recorded(dispatch.AheadOfTime):
        def __call__(self, *arguments):
            state, metrics = super().__call__(*arguments)
            calls.append(state)
            return state, {name: Late(value) for name, value in metrics.items()}

    def waits(tree, block_until_ready=jax.block_until_ready):
        read_at.append(len(calls))
        return block_until_ready(tree)

    monkeypatch.setattr(dispatch, "AheadOfTime", Recorded)
    monkeypatch.setattr(jax, "block_until_ready", waits)
    changes = {"total": "12steps", "log.every": "4steps", "checkpoint.every": "12steps", "evaluate.every": "12steps"}
    train.run(small_config(**changes), tmp_path, console=quiet()[0])
    assert len(calls) == 12
    assert set(read_at) == {0, 4, 8, 12}  # 0: for the initial state, which the clock counts

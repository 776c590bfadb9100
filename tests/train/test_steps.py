"""Several steps per call: only indices are transferred, the state is donated, and the host waits only when a row is due."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from common import narrow_airbench
from common.small_runs import TIMES, quiet, small_config

from jaxcnn import train
from jaxcnn.command import load_config
from jaxcnn.config import changed, validate
from jaxcnn.data import ArraySource, Sizes
from jaxcnn.data.sizes import ONE_SIZE
from jaxcnn.train import steps as train_steps
from jaxcnn.train.clock import Clock
from jaxcnn.train.devices import replicated
from jaxcnn.train.experiment import prepare
from jaxcnn.train.log import read_history
from jaxcnn.train.steps import jit_loop

STEPS, ROOM = 3, 4  # steps of a call, and size of its arrays


@pytest.fixture(scope="module")
def experiment():
    augment = ("alternating_flip", ("random_crop", {"pad": 2, "mode": "reflect"}))
    changes = {"data.resident": "on", "batch_size": 8, "ema.decay": 0.9, "data.augment": augment}
    return prepare(validate(small_config(**changes)))


def batches_of(experiment, calls):
    read = experiment.reader(experiment.dataset.train)
    return read(experiment.order(), 0, experiment.config.batch_size, [STEPS] * calls, ROOM)


def on_device(experiment, count):
    return jax.device_put(np.int32(count), replicated(experiment.mesh))


@pytest.fixture(scope="module")
def steps(experiment):
    """The compiled program of up to ROOM steps in a loop, as on accelerators."""
    jitted = jit_loop(experiment.train_step(), experiment.mesh)
    return jitted.lower(experiment.initial_state(), on_device(experiment, STEPS), next(batches_of(experiment, 1))).compile()


@pytest.mark.slow
def test_only_the_indices_of_batches_are_transferred(experiment, steps):
    state, batches, count = experiment.initial_state(), batches_of(experiment, 4), on_device(experiment, STEPS)
    metrics = []
    for _ in range(4):
        with jax.transfer_guard("disallow"):  # allows only explicit transfers: device_put
            batch = next(batches)
        with jax.transfer_guard("disallow_explicit"):  # allows no transfers
            state, call_metrics = steps(state, count, batch)
            metrics.append(call_metrics["loss"])
    assert int(state.step) == 4 * STEPS
    assert np.isfinite(metrics).all()
    np.testing.assert_array_equal(np.array(metrics) != 0, [np.arange(ROOM) < STEPS] * 4)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="Disallowed host-to-device"):
        steps(state, count, jax.tree.map(np.asarray, batch))  # the guard works


def test_one_call_is_one_loop_without_communication_with_the_host(steps):
    text = steps.as_text()
    assert text.count(" while(") >= 1
    for word in ("infeed", "outfeed", "callback", "send(", "recv("):
        assert word not in text, word


@pytest.mark.parametrize(
    ("total", "intervals", "calls"),
    [
        (200, (25, 200), [25] * 8),
        (100, (50, 100), [25] * 4),
        (70, (100, 1000), [24, 23, 23]),
        (3, (1, 3), [1, 1, 1]),
        (50, (7, 25), [7, 7, 7, 4, 3, 7, 7, 7, 1]),
    ],
)
def test_calls_end_when_rows_are_due(total, intervals, calls):
    assert list(train_steps.plan(0, total, 32, intervals, ONE_SIZE)) == calls


@pytest.mark.parametrize("sizes", [ONE_SIZE, Sizes((8, 16), seed=3), Sizes((8, 12, 16), (17, 61))])
@pytest.mark.parametrize("start", [0, 5, 61])
def test_no_call_extends_beyond_an_interval_or_a_change_of_size(start, sizes):
    for log, evaluate in itertools.product((1, 3, 10, 50, 1000), (25, 391)):
        step = start
        for count in train_steps.plan(start, 200, 32, (log, evaluate), sizes):
            assert 1 <= count <= 32
            steps = range(step, step + count)
            assert len({sizes.at_step(at) for at in steps}) == 1
            assert not any(at % every == 0 for at in steps[1:] for every in (log, evaluate))
            step += count
        assert step == 200


def test_batches_of_a_call_have_at_most_256_mib():
    def most(side, batch_size, labels=None, sizes=ONE_SIZE):
        source = ArraySource(np.broadcast_to(np.uint8(0), (1000, side, side, 3)), np.zeros(1000, np.int32))
        config = SimpleNamespace(batch_size=batch_size)
        return train_steps._most_that_fit(SimpleNamespace(config=config, dataset=SimpleNamespace(train=source), sizes=sizes))

    for side, batch_size in ((32, 2000), (224, 64), (224, 256), (96, 1000)):
        calls = most(side, batch_size)
        example = side * side * 3 + 4
        assert calls * batch_size * example <= 2**28 < (calls + 1) * batch_size * example
    assert most(32, 2000) >= 32
    assert most(224, 4096) == 1, "one batch has to fit"
    assert most(128, 256, sizes=Sizes(((128, 128), (224, 224)), (9,))) == most(224, 256)


def test_state_is_donated_and_the_batch_is_not(experiment, steps):
    state, batch = experiment.initial_state(), next(batches_of(experiment, 1))
    new, _ = steps(state, on_device(experiment, STEPS), batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, batch)))
    assert steps.memory_analysis().alias_size_in_bytes >= sum(leaf.nbytes for leaf in jax.tree.leaves(new))


@pytest.mark.slow
def test_metrics_are_read_when_a_row_is_due_and_not_before(monkeypatch, tmp_path):
    calls, read_at = [], []

    class Late:
        """A metric that records when it is read, because reading waits for its step."""

        def __init__(self, value):
            self.value = value

        def __array__(self, *arguments, **named):
            read_at.append(len(calls))
            return np.asarray(self.value)

    class Recorded(train_steps.AheadOfTime):
        def __call__(self, *arguments):
            state, metrics = super().__call__(*arguments)
            calls.append(state)
            return state, {name: Late(value) for name, value in metrics.items()}

    def waits(tree, block_until_ready=jax.block_until_ready):
        read_at.append(len(calls))
        return block_until_ready(tree)

    monkeypatch.setattr(train_steps, "AheadOfTime", Recorded)
    monkeypatch.setattr(jax, "block_until_ready", waits)
    changes = {"total": "12steps", "log.every": "4steps", "checkpoint.every": "12steps", "evaluate.every": "12steps"}
    train.run(small_config(**changes), tmp_path, console=quiet()[0])
    assert len(calls) == 12
    assert set(read_at) == {0, 4, 8, 12}  # 0: waits for the initial state, to measure its time


@pytest.fixture
def programs(monkeypatch):
    """Records the number of compiled programs of each step function, and the number of steps of each call."""
    made, calls = [], []

    class Recorded(train_steps.AheadOfTime):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

        def __call__(self, state, *arguments):
            calls.append(int(arguments[0]) if len(arguments) == 2 else 1)
            return super().__call__(state, *arguments)

    monkeypatch.setattr(train_steps, "AheadOfTime", Recorded)
    return lambda: ([len(of_one._programs) for of_one in made], calls)


@pytest.fixture
def airbench(tmp_path):
    """A small configs/airbench94.py with up to 32 steps per call, as on accelerators: two epochs of four steps."""
    config = load_config(str(Path(__file__).parents[2] / "configs" / "airbench94.py"))
    changes = {"steps_per_dispatch": 32, "evaluate.every": "2epochs", "log.every": "3steps", "total": "2epochs"}
    return changed(config, narrow_airbench.settings(tmp_path) | changes)


@pytest.mark.parametrize(
    ("every", "counts"), [("1epochs", [4, 4]), ("3steps", [3, 3, 2]), ("50steps", [8]), ("5steps", [5, 3]), ("1steps", [1] * 8)]
)
def test_calls_of_a_run_have_arrays_of_one_shape_for_all_intervals(every, counts, airbench):
    calls = train_steps.Steps(prepare(changed(airbench, {"log.every": every})), 0, Clock())
    assert calls.counts == counts
    batches = list(calls.batches)
    assert len({tuple(array.shape for array in batch.values()) for batch in batches}) == 1
    assert [int(batch["mask"].sum()) for batch in batches] == [20 * count for count in counts]
    resumed = train_steps.Steps(prepare(changed(airbench, {"log.every": every})), 7, Clock())
    assert next(resumed.batches)["image"].shape == batches[0]["image"].shape, "it takes the programs of the first part"


def test_calls_of_a_resumed_run_have_the_array_shape_of_the_entire_run(airbench):
    """The entire run has 2 calls of 4 steps. From step 2, the remaining 6 would be within the limit of one call."""
    experiment = prepare(changed(airbench, {"log.every": "50steps", "steps_per_dispatch": 6}))
    calls = train_steps.Steps(experiment, 2, Clock())
    assert calls.counts == [3, 3]
    batches = list(calls.batches)
    assert [batch["image"].shape[0] for batch in batches] == [4, 4]
    assert [int(batch["mask"].sum()) for batch in batches] == [60, 60]


@pytest.mark.slow
def test_run_of_several_steps_per_call_is_one_program_and_has_the_rows_of_single_steps(airbench, programs, tmp_path):
    train.run(airbench, tmp_path / "many", console=quiet()[0])
    assert programs() == ([1], [3, 3, 2])
    programs()[1].clear()
    train.run(changed(airbench, {"steps_per_dispatch": 1}), tmp_path / "single", console=quiet()[0])
    assert programs() == ([1, 1], [1] * 8)
    for row, expected in zip(read_history(tmp_path / "many"), read_history(tmp_path / "single"), strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - TIMES:
            assert row[name] == pytest.approx(expected[name], rel=1e-3), (row["step"], name)

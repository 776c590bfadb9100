import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn.errors import UserError
from jaxcnn.train.schedules import make_schedule
from jaxcnn.train.settings import ScheduleSettings

TOTAL = 200
PEAK = 0.4


def rates(name, at=None, *, total_steps=TOTAL, **changes):
    """Returns the learning rates at steps 0 … total, or at given ones. An epoch has 10 steps with batch size 100."""
    settings = ScheduleSettings(name, **changes)
    schedule = make_schedule(settings, peak=PEAK, total_steps=total_steps, batch_size=100, examples_per_epoch=1000)
    steps = np.arange(total_steps + 1) if at is None else np.asarray(at)
    # steps are traced int32 values as in training, with strict dtype promotion as in every test
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32)))


def close(found, expected):
    np.testing.assert_allclose(found, np.broadcast_to(expected, np.shape(found)), rtol=1e-5, atol=1e-7)


def test_constant_rate_is_constant():
    close(rates("constant"), PEAK)


@pytest.mark.parametrize("name", ["constant", "steps", "cosine", "linear", "exponential"])
def test_warmup_rises_linearly_to_the_peak(name):
    final = {"final": 0.1} if name == "exponential" else {}
    close(rates(name, range(41), warmup="40steps", **final), PEAK * np.arange(41) / 40)
    close(rates(name, range(41), warmup="4epochs", warmup_start=0.2, **final), PEAK * (0.2 + 0.8 * np.arange(41) / 40))


@pytest.mark.parametrize("warmup", [0, 30])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_falls_over_the_steps_after_the_warmup(warmup, final):
    steps = np.arange(warmup, TOTAL + 1)
    cosine = (1 + np.cos(np.pi * (steps - warmup) / (TOTAL - warmup))) / 2
    found = rates("cosine", steps, warmup=f"{warmup}steps", final=final)
    close(found, PEAK * (final + (1 - final) * cosine))
    close(found[-1], PEAK * final)


@pytest.mark.parametrize("warmup", [0, 30])
@pytest.mark.parametrize("final", [0.0, 0.25])
def test_linear_falls_over_the_steps_after_the_warmup(warmup, final):
    steps = np.arange(warmup, TOTAL + 1)
    share = (steps - warmup) / (TOTAL - warmup)
    close(rates("linear", steps, warmup=f"{warmup}steps", final=final), PEAK * (1 - share * (1 - final)))


@pytest.mark.parametrize("warmup", [0, 30])
def test_exponential_falls_by_a_constant_factor_per_step(warmup):
    found = rates("exponential", warmup=f"{warmup}steps", final=0.25)[warmup:]
    close(found[1:] / found[:-1], 0.25 ** (1 / (TOTAL - warmup)))
    close(found[[0, -1]], [PEAK, PEAK / 4])


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential", "one_cycle"])
def test_schedule_with_a_separate_total_ends_there_and_stays_constant(name):
    final = {"final": 0.1} if name == "exponential" else {}
    found = rates(name, warmup="10steps", total="5epochs", **final)
    close(found[:51], rates(name, warmup="10steps", total_steps=50, **final))
    close(found[51:], found[50])
    with pytest.raises(UserError, match=r"schedule\.total: expected at least one step, got 0steps"):
        rates(name, total="0steps")


@pytest.mark.parametrize("warmup", ["0steps", "25steps", "100steps"])
def test_boundaries_are_counted_from_the_start_of_training_with_any_warmup(warmup):
    found = rates("steps", warmup=warmup, boundaries=("10epochs", "15_000examples", "190steps"), factor=0.1)
    steps = np.arange(100, TOTAL + 1)
    expected = PEAK * 0.1 ** (1.0 + (steps >= 150) + (steps >= 190))  # the step at a boundary has the new rate
    close(found[100:], expected)
    close(found[99], PEAK if warmup != "100steps" else PEAK * 0.99)


def test_no_boundaries_is_a_constant_rate():
    close(rates("steps"), PEAK)


def pytorch_one_cycle(total_steps, pct_start, max_lr, div_factor=25.0, final_div_factor=1e4):
    """torch.optim.lr_scheduler.OneCycleLR, two phases, anneal_strategy="cos", after its documentation and source."""
    first_end, last = pct_start * total_steps - 1, total_steps - 1
    initial, least = max_lr / div_factor, max_lr / div_factor / final_div_factor

    def anneal(start, end, share):
        return end + (start - end) / 2 * (1 + np.cos(np.pi * share))

    step = np.arange(total_steps)
    rising = anneal(initial, max_lr, step / first_end)
    return np.where(step <= first_end, rising, anneal(max_lr, least, (step - first_end) / (last - first_end)))


@pytest.mark.parametrize(("warmup", "rise"), [("0steps", 60), ("50steps", 50), ("29steps", 29), ("57steps", 57), ("1steps", 1)])
def test_one_cycle_rises_and_falls_as_in_pytorch(warmup, rise):
    # PyTorch reaches the lowest rate at the last step, jaxcnn (as for cosine) after it; hence TOTAL + 1 rates
    expected = pytorch_one_cycle(TOTAL + 1, (rise + 1) / (TOTAL + 1), PEAK)
    found = rates("one_cycle", warmup=warmup)
    close(found, expected)
    assert found.argmax() == rise


@pytest.mark.parametrize("name", ["constant", "steps", "cosine", "linear", "one_cycle"])
@pytest.mark.parametrize("total_steps", [1, 2, 3, 5])
def test_shortest_schedules_have_finite_rates(name, total_steps):
    found = rates(name, total_steps=total_steps)[:-1]
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= PEAK * 1.0001).all()
    assert found.max() > 0


def test_end_of_a_very_long_schedule_is_reached():
    total = 3_000_000
    found = rates("cosine", [0, total // 2, total - 1], total_steps=total)
    close(found, [PEAK, PEAK / 2, 0.0])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "cosine",
            {"warmup": "200steps"},
            r"schedule.warmup: 200steps \(200 steps\) must be shorter .*config.schedule.warmup=20steps",
        ),
        ("exponential", {}, r"schedule\.final: the exponential schedule needs a final learning rate above 0, such as 0\.01"),
        ("one_cycle", {"warmup": "20epochs"}, r"schedule.warmup: 20epochs \(200 steps\) must be shorter"),
        ("steps", {"boundaries": ("10steps", "1epochs")}, "schedule.boundaries: expected positive, strictly increasing"),
        ("steps", {"boundaries": ("2epochs", "10steps")}, "schedule.boundaries: expected positive, strictly increasing"),
        (
            "steps",
            {"boundaries": ("0steps",)},
            "schedule.boundaries: expected positive, strictly increasing durations, got .*0steps",
        ),
        (
            "steps",
            {"boundaries": ("10steps",), "warmup": "20steps"},
            "schedule.boundaries: 10steps is within the warm-up of 20steps",
        ),
        (
            "steps",
            {"boundaries": ("soon",)},
            r"schedule.boundaries: expected a list, each item a duration such as .* got \('soon',\)",
        ),
    ],
)
def test_invalid_schedule_is_refused_by_name(name, changes, message):
    with pytest.raises(UserError, match=message):
        rates(name, **changes)

"""Learning rate schedules: functions from the step to the learning rate, built from optax's schedules."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import optax

from jaxcnn.durations import duration_in_steps, durations_in_steps
from jaxcnn.errors import UserError
from jaxcnn.train.settings import ScheduleSettings

T = TypeVar("T")


def make_schedule(
    settings: ScheduleSettings, *, peak: float, total_steps: int, batch_size: int, examples_per_epoch: int
) -> optax.Schedule:
    """Returns the schedule of the settings `schedule.*` with this peak, over schedule.total or, if empty, `total_steps` steps.

        schedule = make_schedule(ScheduleSettings(), peak=0.1, total_steps=1000, batch_size=128, examples_per_epoch=50_000)

    `batch_size` and `examples_per_epoch` convert durations to steps.

    Raises:
      UserError: if the durations of the settings do not fit each other.
    """
    durations = {"batch_size": batch_size, "examples_per_epoch": examples_per_epoch}
    if settings.total:
        total_steps = duration_in_steps("schedule.total", settings.total, **durations)
        if not total_steps:
            raise UserError(f"schedule.total: expected at least one step, got {settings.total}")
    warmup = duration_in_steps("schedule.warmup", settings.warmup, **durations)
    if warmup >= total_steps and warmup:
        raise UserError(
            f"schedule.warmup: {settings.warmup} ({warmup:,} steps) must be shorter than the schedule ({total_steps:,} steps); "
            f"for example, set --config.schedule.warmup={total_steps // 10}steps"
        )
    if settings.name == "exponential" and not settings.final:
        raise UserError("schedule.final: the exponential schedule needs a final learning rate above 0, such as 0.01")
    if settings.name == "one_cycle":
        # Smith and Topin 2018. Like PyTorch's OneCycleLR, rises from peak/25 and falls to peak/25/10,000, both as cosines.
        rise = warmup or int(0.3 * total_steps)
        return with_standard_promotion(
            optax.piecewise_interpolate_schedule("cosine", peak / 25, {rise: 25.0, total_steps: 1 / (25 * 1e4)})
        )
    if settings.name == "steps":
        boundaries = durations_in_steps("schedule.boundaries", settings.boundaries, **durations)
        if boundaries and boundaries[0] < warmup:
            raise UserError(f"schedule.boundaries: {settings.boundaries[0]} is within the warm-up of {settings.warmup}")
        # join_schedules restarts the step count after the warm-up
        main = optax.piecewise_constant_schedule(peak, {b - warmup: settings.factor for b in boundaries})
    else:
        rest = max(total_steps - warmup, 1)
        main = {
            "constant": lambda: optax.constant_schedule(peak),
            "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=settings.final),
            "linear": lambda: optax.linear_schedule(peak, peak * settings.final, rest),
            "exponential": lambda: optax.exponential_decay(peak, rest, settings.final, end_value=peak * settings.final),
        }[settings.name]()
    if not warmup:
        return with_standard_promotion(main)
    rise = optax.linear_schedule(peak * settings.warmup_start, peak, warmup)
    return with_standard_promotion(optax.join_schedules([rise, main], [warmup]))


def with_standard_promotion(function: Callable[..., T]) -> Callable[..., T]:
    """Returns `function` with standard dtype promotion, because optax's schedules and updates mix integers with floats."""

    @functools.wraps(function)
    def standard(*arguments: Any) -> T:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments)

    return standard

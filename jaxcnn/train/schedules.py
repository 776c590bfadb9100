"""The course of the learning rate, from optax's schedules. step -> learning rate."""

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
    """What the settings `schedule.*` ask for with this peak learning rate, over schedule.total or else `total_steps` steps.

        schedule = make_schedule(ScheduleSettings(), peak=0.1, total_steps=1000, batch_size=128, examples_per_epoch=50_000)

    `batch_size` and `examples_per_epoch` make steps of durations in epochs.
    """
    durations = {"batch_size": batch_size, "examples_per_epoch": examples_per_epoch}
    if settings.total:
        total_steps = duration_in_steps("schedule.total", settings.total, **durations)
        if not total_steps:
            raise UserError(f"schedule.total: {settings.total} is no step: training needs at least one")
    warmup = duration_in_steps("schedule.warmup", settings.warmup, **durations)
    if warmup >= total_steps and warmup:
        raise UserError(
            f"schedule.warmup: {settings.warmup} are {warmup:,} steps, as many as the {total_steps:,} of training or more; set "
            f"schedule.warmup below the total, for example --config.schedule.warmup={total_steps // 10}steps"
        )
    if settings.name == "one_cycle":
        # Smith and Topin 2018; rises from peak/25 and falls to peak/25/10,000, both as cosines, as PyTorch's OneCycleLR.
        rise = warmup or int(0.3 * total_steps)
        return with_standard_promotion(
            optax.piecewise_interpolate_schedule("cosine", peak / 25, {rise: 25.0, total_steps: 1 / (25 * 1e4)})
        )
    if settings.name == "steps":
        boundaries = durations_in_steps("schedule.boundaries", settings.boundaries, **durations)
        if boundaries and boundaries[0] < warmup:
            raise UserError(f"schedule.boundaries: {settings.boundaries[0]} is within the warm-up, {settings.warmup}")
        # join_schedules restarts the count after the warm-up
        main = optax.piecewise_constant_schedule(peak, {b - warmup: settings.factor for b in boundaries})
    else:
        rest = max(total_steps - warmup, 1)
        main = {
            "constant": lambda: optax.constant_schedule(peak),
            "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=settings.final),
            "linear": lambda: optax.linear_schedule(peak, peak * settings.final, rest),
        }[settings.name]()
    if not warmup:
        return with_standard_promotion(main)
    rise = optax.linear_schedule(peak * settings.warmup_start, peak, warmup)
    return with_standard_promotion(optax.join_schedules([rise, main], [warmup]))


def with_standard_promotion(function: Callable[..., T]) -> Callable[..., T]:
    """`function` of optax, also where JAX is set to strict dtype promotion: inside, it mixes integers with floats."""

    @functools.wraps(function)
    def standard(*arguments: Any) -> T:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments)

    return standard

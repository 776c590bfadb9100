"""The settings of a run: seed, total, …, optimizer.*, schedule.*, ema.*, early_stop.*, checkpoint.* and log.*."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from jaxcnn.durations import Duration, DurationOrNone
from jaxcnn.errors import UserError
from jaxcnn.settings import (
    Count,
    NotNegative,
    Section,
    Setting,
    Share,
    Whole,
    checked,
    declarations,
    flatten,
    when,
    with_changes,
)

Factors = Annotated[
    tuple[tuple[str, NotNegative], ...], Meta(description="a list of pairs (regular expression, factor of at least 0)")
]


@dataclasses.dataclass(frozen=True)
class RunSettings(Section):
    """The settings of the run as a whole: seed, duration, batch size and devices."""

    seed: Annotated[
        int,
        Meta(ge=0, le=2**32 - 1),
        Setting("random seed of initial parameters, data order, augmentation and dropout"),
    ] = 0
    total: Annotated[
        Duration, Setting("duration of training in steps, epochs or examples: 5000steps, 10epochs, 1_000_000examples")
    ] = "10epochs"
    batch_size: Annotated[Count, Setting("number of examples per step, over all devices")] = 128
    devices: Annotated[Whole, Setting("number of devices to use; 0 = all", changes_result=False)] = 0
    steps_per_dispatch: Annotated[
        Whole,
        Setting(
            "maximum number of training steps per call of the device, reduced if their batches exceed 256 MiB; 0 = 1 on CPU, "
            "where loops are slow, and 32 on other devices",
            changes_result=False,
        ),
    ] = 0


_MOMENTUM = when("optimizer.name", "sgd", "rmsprop", "muon")
_MUON = when("optimizer.name", "muon")
_GLOBAL = ("groups", "freeze", "clip_norm", "accumulate")  # settings optimizer.* that a parameter group cannot override


@dataclasses.dataclass(frozen=True)
class OptimizerSettings(Section, section="optimizer"):
    """The optimizer, and its settings for groups of parameters."""

    name: Annotated[
        Literal["sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon"],
        Setting("update rule (from optax)"),
    ] = "sgd"
    learning_rate: Annotated[NotNegative, Setting("peak learning rate")] = 0.1
    momentum: Annotated[Share, Setting("momentum coefficient of sgd, rmsprop and muon; 0 = none", _MOMENTUM)] = 0.9
    nesterov: Annotated[
        bool, Setting("use Nesterov momentum in sgd, rmsprop and muon", _MOMENTUM, when("optimizer.momentum"))
    ] = False
    b1: Annotated[
        Share,
        Setting(
            "decay rate of the first moment in adam, adamw, lamb and lion, and in the adam part of muon",
            when("optimizer.name", "adam", "adamw", "lamb", "lion", "muon"),
        ),
    ] = 0.9
    b2: Annotated[
        Share,
        Setting(
            "decay rate of the second moment in adam, adamw, lamb, lion and rmsprop, and in the adam part of muon",
            when("optimizer.name", "adam", "adamw", "lamb", "lion", "muon", "rmsprop"),
        ),
    ] = 0.999
    eps: Annotated[
        NotNegative,
        Setting(
            "constant added to the denominator in adam, adamw, lamb and rmsprop, and in the adam part of muon",
            when("optimizer.name", "adam", "adamw", "lamb", "muon", "rmsprop"),
        ),
    ] = 1e-8
    weight_decay: Annotated[
        NotNegative,
        Setting(
            "weight decay; weight_decay × parameter is added to the gradient (sgd, adam, rmsprop) or to the update before the "
            "learning rate is applied (adamw, lamb, lion, adafactor, muon)",
        ),
    ] = 0.0
    weight_decay_factors: Annotated[
        Factors,
        Setting(
            "pairs (regular expression, factor) that scale the weight decay of parameters with a matching path; the first "
            "match counts; without a match the factor is 1",
            when("optimizer.weight_decay"),
        ),
    ] = (("(^|/)(bias|scale)$", 0.0),)
    learning_rate_factors: Annotated[
        Factors, Setting("pairs (regular expression, factor) that scale the learning rate likewise")
    ] = ()
    groups: Annotated[
        tuple[tuple[str, dict[str, Any]], ...],
        Meta(description='a list of pairs ("regular expression", {"optimizer.learning_rate": value, …})'),
        Setting(
            "pairs (regular expression, settings) that change optimizer.* and schedule.* for parameters with a matching path; "
            'the first match counts: (("bias$", {"optimizer.name": "sgd", "schedule.total": "3epochs"}), …)',
        ),
    ] = ()
    muon_steps: Annotated[Count, Setting("number of Newton-Schulz iterations in muon", _MUON)] = 5
    muon_coefficients: Annotated[
        tuple[float, float, float], Setting("coefficients of x, x³ and x⁵ in the Newton-Schulz iterations of muon", _MUON)
    ] = (3.4445, -4.775, 2.0315)
    muon_dtype: Annotated[
        Literal["float32", "bfloat16"], Setting("data type of the Newton-Schulz iterations of muon", _MUON)
    ] = "float32"
    rescale_filters: Annotated[
        bool,
        Setting(
            "scale each convolution kernel to the norm √filters before its update (airbench)",
        ),
    ] = False
    freeze: Annotated[
        tuple[str, ...],
        Setting(
            "regular expressions; parameters with a matching path are not trained; batch norm layers whose parameters are all "
            "frozen use their running statistics and do not update them",
        ),
    ] = ()
    clip_norm: Annotated[NotNegative, Setting("maximum global norm to which gradients are clipped; 0 = no clipping")] = 0.0
    accumulate: Annotated[
        Count,
        Setting(
            "number of parts into which each batch is split to save memory; their gradients are averaged",
        ),
    ] = 1

    def __post_init__(self) -> None:
        """Also checks the settings of the groups."""
        super().__post_init__()
        known = declarations(GroupSettings) if self.groups else {}
        for pattern, changes in self.groups:
            for name in changes:
                section, _, field = name.partition(".")
                if section not in ("optimizer", "schedule") or field in _GLOBAL:
                    raise UserError(f"optimizer.groups: {pattern!r}: {name!r} is not a setting that a group can change")
                if name in known:  # with_changes rejects unknown names, with a suggestion
                    changes[name] = checked(f"optimizer.groups: {pattern!r}: {name}", changes[name], known[name].hint)

    def variants(self) -> list[Mapping[str, Any]]:
        """Returns the changed settings of each group."""
        return [changes for _, changes in self.groups]


@dataclasses.dataclass(frozen=True)
class ScheduleSettings(Section, section="schedule"):
    """The learning rate schedule."""

    name: Annotated[
        Literal["constant", "steps", "cosine", "linear", "exponential", "one_cycle"],
        Setting("learning rate schedule after the warm-up"),
    ] = "cosine"
    total: Annotated[
        DurationOrNone,
        Setting(
            "duration after which the learning rate has reached its final value and stays constant; '' = the end of training",
            when("schedule.name", "cosine", "linear", "exponential", "one_cycle"),
        ),
    ] = ""
    warmup: Annotated[
        Duration, Setting("duration of the linear warm-up; for one_cycle, of the rising part, where 0 = 30 % of the total")
    ] = "0steps"
    warmup_start: Annotated[
        Share,
        Setting(
            "learning rate at the start of the warm-up, as a fraction of the peak",
            when("schedule.name", "constant", "steps", "cosine", "linear", "exponential"),
            when("schedule.warmup"),
        ),
    ] = 0.0
    boundaries: Annotated[
        tuple[Duration, ...],
        Setting(
            "durations after which the steps schedule multiplies the learning rate by schedule.factor",
            when("schedule.name", "steps"),
        ),
    ] = ()
    factor: Annotated[
        NotNegative,
        Setting(
            "factor applied to the learning rate at each of schedule.boundaries",
            when("schedule.name", "steps"),
            when("schedule.boundaries"),
        ),
    ] = 0.1
    final: Annotated[
        Share,
        Setting(
            "final learning rate of the cosine, linear and exponential schedules, as a fraction of the peak",
            when("schedule.name", "cosine", "linear", "exponential"),
        ),
    ] = 0.0


@dataclasses.dataclass(frozen=True)
class EmaSettings(Section, section="ema"):
    """The exponential moving average (EMA) of the weights."""

    decay: Annotated[
        Share,
        Setting(
            "decay of the moving average of the weights, which is evaluated as well and used at the end; in early steps it is "
            "limited to (1 + step) / (10 + step); 0 = no average",
        ),
    ] = 0.0


@dataclasses.dataclass(frozen=True)
class EarlyStopSettings(Section, section="early_stop"):
    """When a run ends before its total duration."""

    patience: Annotated[Whole, Setting("number of evaluations without improvement after which training stops; 0 = never")] = 0
    min_delta: Annotated[NotNegative, Setting("minimum improvement that counts", when("early_stop.patience"))] = 0.0


@dataclasses.dataclass(frozen=True)
class CheckpointSettings(Section, section="checkpoint"):
    """How often checkpoints are written and how many are kept."""

    every: Annotated[Duration, Setting("interval between checkpoints", changes_result=False)] = "1epochs"
    keep: Annotated[Count, Setting("number of latest checkpoints to keep, in addition to the best", changes_result=False)] = 2


@dataclasses.dataclass(frozen=True)
class LogSettings(Section, section="log"):
    """How often training metrics are logged."""

    every: Annotated[Duration, Setting("interval between log lines of training metrics", changes_result=False)] = "50steps"


# ── Groups of parameters ────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class GroupSettings(Section):
    """The settings that an entry of optimizer.groups can change."""

    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = dataclasses.field(default_factory=ScheduleSettings)


def group_settings(optimizer: OptimizerSettings, schedule: ScheduleSettings) -> list[tuple[str, GroupSettings]]:
    """Returns each entry of optimizer.groups as (pattern, settings): the given settings with the changes of the entry.

    Raises:
      UserError: if an entry contains an unknown setting, an invalid value, or a setting that has no effect in the group.
    """
    base = GroupSettings(optimizer, schedule)
    for pattern, changes in optimizer.groups:
        for name, reason in changes_without_effect(base, changes).items():
            raise UserError(f"optimizer.groups: {pattern!r}: {name}: {changes[name]!r} has no effect {reason}leave it out")
    return [(pattern, with_changes(base, changes)) for pattern, changes in optimizer.groups]


def changes_without_effect(base: GroupSettings, changes: Mapping[str, Any]) -> dict[str, str]:
    """Returns the changes of a group that differ from `base` and have no effect in the group, each with the reason."""
    before, now = flatten(base), flatten(with_changes(base, changes))
    return {
        name: reason.why_not(now)
        for name in changes
        if now[name] != before[name] and (reason := declarations(GroupSettings)[name].unmet(now))
    }

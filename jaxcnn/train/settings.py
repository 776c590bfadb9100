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
    """How long, on what and from which seed."""

    seed: Annotated[
        int,
        Meta(ge=0, le=2**32 - 1),
        Setting(
            "decides everything random: initial parameters, data order, augmentation, dropout",
        ),
    ] = 0
    total: Annotated[Duration, Setting("how long to train, as steps, epochs or examples")] = "10epochs"
    batch_size: Annotated[Count, Setting("examples per step, over all devices")] = 128
    devices: Annotated[Whole, Setting("how many of the devices found to use; 0 = all", changes_result=False)] = 0
    steps_per_dispatch: Annotated[
        Whole,
        Setting(
            "most training steps per call to the device, fewer where their batches take more than 256 MiB; 0 = 1 on CPU, where "
            "loops are slow, 32 elsewhere",
            changes_result=False,
        ),
    ] = 0


_MOMENTUM = when("optimizer.name", "sgd", "rmsprop", "muon")
_MUON = when("optimizer.name", "muon")
_OF_ALL = ("groups", "freeze", "clip_norm", "accumulate")  # settings optimizer.* that no group has for itself


@dataclasses.dataclass(frozen=True)
class OptimizerSettings(Section, section="optimizer"):
    """The update rule, and the rules of groups of parameters."""

    name: Annotated[
        Literal["sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon"],
        Setting(
            "update rule, from optax",
        ),
    ] = "sgd"
    learning_rate: Annotated[NotNegative, Setting("peak learning rate")] = 0.1
    momentum: Annotated[Share, Setting("sgd, rmsprop, muon", _MOMENTUM)] = 0.9
    nesterov: Annotated[bool, Setting("sgd, rmsprop, muon", _MOMENTUM, when("optimizer.momentum"))] = False
    b1: Annotated[
        Share,
        Setting(
            "decay of the first moment: adam, adamw, lamb, lion; muon's adam",
            when("optimizer.name", "adam", "adamw", "lamb", "lion", "muon"),
        ),
    ] = 0.9
    b2: Annotated[
        Share,
        Setting(
            "decay of the second moment: the same and rmsprop",
            when("optimizer.name", "adam", "adamw", "lamb", "lion", "muon", "rmsprop"),
        ),
    ] = 0.999
    eps: Annotated[
        NotNegative,
        Setting(
            "adam, adamw, rmsprop, lamb; muon's adam",
            when("optimizer.name", "adam", "adamw", "lamb", "muon", "rmsprop"),
        ),
    ] = 1e-8
    weight_decay: Annotated[
        NotNegative,
        Setting(
            "added to the gradient (sgd, adam, rmsprop) or to the update before the learning rate (adamw, lamb, lion, "
            "adafactor, muon)",
        ),
    ] = 0.0
    weight_decay_factors: Annotated[
        Factors,
        Setting(
            "(regular expression over parameter paths, factor), the first that matches decides; 1 where none does",
            when("optimizer.weight_decay"),
        ),
    ] = (("(^|/)(bias|scale)$", 0.0),)
    learning_rate_factors: Annotated[Factors, Setting("the same form; multiplies the learning rate")] = ()
    groups: Annotated[
        tuple[tuple[str, dict[str, Any]], ...],
        Meta(description='a list of pairs ("regular expression", {"optimizer.learning_rate": value, …})'),
        Setting(
            'parameters with settings optimizer.* and schedule.* of their own: (("bias$", {"optimizer.name": "sgd", '
            '"schedule.total": "3epochs"}), …), regular expressions over paths, the first that matches',
        ),
    ] = ()
    muon_steps: Annotated[Count, Setting("muon: Newton-Schulz iterations", _MUON)] = 5
    muon_coefficients: Annotated[tuple[float, float, float], Setting("muon: of x, x³ and x⁵ in them", _MUON)] = (
        3.4445,
        -4.775,
        2.0315,
    )
    muon_dtype: Annotated[Literal["float32", "bfloat16"], Setting("muon: what they are computed in", _MUON)] = "float32"
    rescale_filters: Annotated[
        bool,
        Setting(
            "brings each convolution kernel to the norm √filters before its update (airbench): a weight decay with a target",
        ),
    ] = False
    freeze: Annotated[
        tuple[str, ...],
        Setting(
            "regular expressions; the parameters that match are not trained, and batch norm all of whose parameters match "
            "keeps and uses its running statistics",
        ),
    ] = ()
    clip_norm: Annotated[NotNegative, Setting("gradients are scaled down to this global norm; 0 = not")] = 0.0
    accumulate: Annotated[
        Count,
        Setting(
            "parts that a batch is computed in, one after the other, to save memory",
        ),
    ] = 1

    def __post_init__(self) -> None:
        """Checks the settings of the groups too."""
        super().__post_init__()
        known = declarations(GroupSettings) if self.groups else {}
        for pattern, changes in self.groups:
            for name in changes:
                section, _, field = name.partition(".")
                if section not in ("optimizer", "schedule") or field in _OF_ALL:
                    raise UserError(f"optimizer.groups: {pattern!r}: {name!r} is not a setting that a group has for itself")
                if name in known:  # with_changes says what there is instead of another
                    changes[name] = checked(f"optimizer.groups: {pattern!r}: {name}", changes[name], known[name].hint)

    def variants(self) -> list[Mapping[str, Any]]:
        """What the groups change."""
        return [changes for _, changes in self.groups]


@dataclasses.dataclass(frozen=True)
class ScheduleSettings(Section, section="schedule"):
    """The course of the learning rate."""

    name: Annotated[
        Literal["constant", "steps", "cosine", "linear", "one_cycle"],
        Setting(
            "course of the learning rate after the warm-up",
        ),
    ] = "cosine"
    total: Annotated[
        DurationOrNone,
        Setting(
            "the rate has reached its end after this, and stays; '' = as training ends",
            when("schedule.name", "cosine", "linear", "one_cycle"),
        ),
    ] = ""
    warmup: Annotated[Duration, Setting("linear rise to the peak; one_cycle: its rising part, 30 % if 0")] = "0steps"
    warmup_start: Annotated[
        Share,
        Setting(
            "share of the peak at which the warm-up starts",
            when("schedule.name", "constant", "steps", "cosine", "linear"),
            when("schedule.warmup"),
        ),
    ] = 0.0
    boundaries: Annotated[
        tuple[Duration, ...],
        Setting(
            "steps: durations after which the rate is multiplied by schedule.factor",
            when("schedule.name", "steps"),
        ),
    ] = ()
    factor: Annotated[
        NotNegative,
        Setting(
            "steps: that factor",
            when("schedule.name", "steps"),
            when("schedule.boundaries"),
        ),
    ] = 0.1
    final: Annotated[
        Share,
        Setting(
            "cosine, linear: share of the peak at the end",
            when("schedule.name", "cosine", "linear"),
        ),
    ] = 0.0


@dataclasses.dataclass(frozen=True)
class EmaSettings(Section, section="ema"):
    """The moving average of the weights."""

    decay: Annotated[
        Share,
        Setting(
            "decay of the weights' moving average, which is evaluated too and used at the end; rises to it as "
            "(1 + step) / (10 + step); 0 = no average",
        ),
    ] = 0.0


@dataclasses.dataclass(frozen=True)
class EarlyStopSettings(Section, section="early_stop"):
    """When a run ends before its total."""

    patience: Annotated[Whole, Setting("stop after so many evaluations with no better validation; 0 = never")] = 0
    min_delta: Annotated[NotNegative, Setting("by how much better it must be to count", when("early_stop.patience"))] = 0.0


@dataclasses.dataclass(frozen=True)
class CheckpointSettings(Section, section="checkpoint"):
    """When checkpoints are written and how many stay."""

    every: Annotated[Duration, Setting("interval of checkpoints", changes_result=False)] = "1epochs"
    keep: Annotated[Count, Setting("latest checkpoints kept, beside the best", changes_result=False)] = 2


@dataclasses.dataclass(frozen=True)
class LogSettings(Section, section="log"):
    """When training metrics are written."""

    every: Annotated[Duration, Setting("interval of lines of training metrics", changes_result=False)] = "50steps"


# ── Groups of parameters ────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class GroupSettings(Section):
    """What an entry of optimizer.groups can have for itself."""

    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = dataclasses.field(default_factory=ScheduleSettings)


def group_settings(optimizer: OptimizerSettings, schedule: ScheduleSettings) -> list[tuple[str, GroupSettings]]:
    """Each entry of optimizer.groups as (pattern, all that holds for it): the given settings with the changes of the entry.

    Raises:
      UserError: an entry names no setting, changes one to a wrong value, or one that has no effect in it.
    """
    base = GroupSettings(optimizer, schedule)
    for pattern, changes in optimizer.groups:
        for name, reason in changes_without_effect(base, changes).items():
            raise UserError(f"optimizer.groups: {pattern!r}: {name}: {changes[name]!r} has no effect {reason}leave it out")
    return [(pattern, with_changes(base, changes)) for pattern, changes in optimizer.groups]


def changes_without_effect(base: GroupSettings, changes: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a group that differ from `base` and have no effect in the group, each with the reason."""
    before, now = flatten(base), flatten(with_changes(base, changes))
    return {
        name: reason.why_not(now)
        for name in changes
        if now[name] != before[name] and (reason := declarations(GroupSettings)[name].unmet(now))
    }

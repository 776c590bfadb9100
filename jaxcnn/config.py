"""Configs: the settings of all packages with values, checked.

A file in configs/ starts from `default_config()` and changes what it needs:

    def get_config():
        config = default_config()
        config.model.name = "resnet18"
        return config

`validate` makes a `Config` of it, which cannot be changed: names, types, choices and ranges have been checked, wherever the
values came from, and every setting that was changed has an effect. `changed` makes another one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ml_collections import ConfigDict, FieldReference

from jaxcnn import settings
from jaxcnn.data import former
from jaxcnn.data.settings import DataSettings
from jaxcnn.durations import is_duration, parse_duration
from jaxcnn.errors import UserError
from jaxcnn.evaluate.settings import EvaluateSettings
from jaxcnn.models.settings import ModelSettings
from jaxcnn.settings import Declaration, Section, Setting, when, with_changes
from jaxcnn.tasks.settings import LossSettings, TaskSettings
from jaxcnn.train.settings import (
    CheckpointSettings,
    EarlyStopSettings,
    EmaSettings,
    GroupSettings,
    LogSettings,
    OptimizerSettings,
    RunSettings,
    ScheduleSettings,
    changes_without_effect,
    group_settings,
)


@dataclass(frozen=True)
class Config(RunSettings):
    """All settings of a run."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    loss: Annotated[LossSettings, Setting("", when("task.name", "classification"))] = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    ema: EmaSettings = field(default_factory=EmaSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    early_stop: EarlyStopSettings = field(default_factory=EarlyStopSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)


def declarations() -> dict[str, Declaration]:
    """All settings by name, in order."""
    return settings.declarations(Config)


def default_config() -> ConfigDict:
    """All settings at their defaults, to be changed by a file in configs/."""
    config = ConfigDict()
    for name, entry in declarations().items():
        section, _, leaf = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        holder, default = config[section] if section else config, entry.default
        holder[leaf] = ConfigDict(default) if isinstance(default, dict) else default
        if name in ("data.image_size", "data.cache_side"):  # a ConfigDict that holds an int would refuse a pair
            holder[leaf] = FieldReference(default, field_type=object)
    return config


def flatten(config: ConfigDict | Section) -> dict[str, Any]:
    """{"optimizer.learning_rate": 0.1, …}; model.arguments and task.arguments stay dicts."""
    if isinstance(config, Section):
        return settings.flatten(config)
    flat: dict[str, Any] = {}

    def walk(node: ConfigDict, prefix: str) -> None:
        for name in node.keys():  # noqa: SIM118 (a ConfigDict, not a dict)
            path, value = prefix + name, node[name]
            if isinstance(value, ConfigDict) and path not in declarations():
                walk(value, path + ".")
            else:
                flat[path] = value.to_dict() if isinstance(value, ConfigDict) else value

    walk(config, "")
    return flat


def validate(config: ConfigDict | Config) -> Config:
    """`config` with every name, type, choice and range checked.

    Raises:
      UserError: names the first setting that is wrong, and what would be right; or one that was changed and has no effect.
    """
    return changed(config, {})


def changed(config: ConfigDict | Config, changes: Mapping[str, Any]) -> Config:
    """`validate` of `config` with other values for some settings: {"optimizer.learning_rate": 0.1, …}."""
    values = flatten(config) | dict(changes)
    new = with_changes(Config(), values)
    for name in former.FORMER:
        for entry in flatten(new)[name]:
            former.refuse(name, entry)
    settings.refuse_without_effect(new)
    group_settings(new.optimizer, new.schedule)  # refuses what is wrong in optimizer.groups
    return new


# ── As text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(config: Config) -> str:
    """Every setting, its value and its meaning, a line each."""
    lines = [(f"{name} = {value!r}", declarations()[name].about.meaning) for name, value in flatten(config).items()]
    width = max(len(left) for left, _ in lines if len(left) < 60)
    return "\n".join(f"{left:<{width}}  # {meaning}" for left, meaning in lines)


def to_json(config: ConfigDict | Config) -> str:
    """The config as config.json holds it: {"schema": 1, "optimizer.learning_rate": 0.1, …}."""
    return json.dumps(to_saved(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """The inverse of `to_json`; see `from_saved`."""
    return from_saved(json.loads(text), "config.json")


# ── In runs and checkpoints ─────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = 1
"""The form of settings in runs and checkpoints. It grows with a change that older versions would misread; 0 had no number."""

RENAMED: dict[str, str] = {}
"""Settings by their former names: {"old.name": "new.name"}. Those of operations in their values are in data/former.py."""


class NewerSchemaError(UserError):
    """A run or checkpoint of a later version."""


def to_saved(config: ConfigDict | Config) -> dict[str, Any]:
    """What a checkpoint and config.json hold of a config."""
    return {"schema": SCHEMA, **flatten(config)}


def from_saved(values: Mapping[str, Any], where: str) -> Config:
    """The inverse of `to_saved`, for what earlier versions wrote too.

    A setting that is newer than the values gets its default, and so does one that has no effect: earlier versions took any
    value for it.

    Raises:
      UserError: `where` is of a later version; an unknown setting, or a wrong value of one.
    """
    values = dict(values)
    if not isinstance(schema := values.pop("schema", 0), int) or schema > SCHEMA:
        raise NewerSchemaError(
            f"{where}: its settings have schema {schema}, but this jaxcnn knows those up to {SCHEMA}; use a newer jaxcnn"
        )
    new = _renamed(values) | {"optimizer.groups": _renamed(values.get("optimizer.groups", ()))}
    for name in former.FORMER:
        if isinstance(entries := new.get(name), list | tuple):
            new[name] = tuple(former.renamed(name, entry) for entry in entries)
    return _effective(with_changes(Config(), new))


def _renamed(value: Any) -> Any:
    """Dicts of settings, and lists of them, with the names that settings have now."""
    if isinstance(value, list | tuple):
        return [_renamed(item) for item in value]
    return {RENAMED.get(name, name): item for name, item in value.items()} if isinstance(value, Mapping) else value


def _effective(config: Config) -> Config:
    """`config` with settings that have no effect at their defaults."""
    while unused := settings.without_effect(config):  # what is reset may have been the condition of another
        config = with_changes(config, {name: declarations()[name].default for name in unused})
    base = GroupSettings(config.optimizer, config.schedule)
    groups = [
        (pattern, {name: changes[name] for name in changes if name not in changes_without_effect(base, changes)})
        for pattern, changes in config.optimizer.groups
    ]
    return with_changes(config, {"optimizer.groups": groups})


def differences(old: ConfigDict | Config, new: ConfigDict | Config) -> list[str]:
    """What differs between two configs in settings that change a run's result: "seed: 0 -> 1"."""
    before, after = (flatten(_effective(with_changes(Config(), flatten(config)))) for config in (old, new))
    same_before, same_after = _as_compared(before), _as_compared(after)
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name, entry in declarations().items()
        if entry.about.changes_result and same_before[name] != same_after[name]
    ]


def _as_compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of settings, those equal that mean the same."""
    values = dict(values)
    for name, entry in declarations().items():
        if values[name] and is_duration(entry.hint):
            values[name] = parse_duration(name, values[name])
    if weights := values["model.pretrained"]:
        values["model.pretrained"] = os.path.normpath(os.path.expanduser(weights))
    if not values["data.random_crop"]:
        values["data.cache"] = "off"  # evaluation sees the same pixels
    elif values["data.cache"] == "disk":
        values["data.cache"] = "memory"
    return values

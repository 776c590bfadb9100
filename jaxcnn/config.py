"""Configs: validated values for the settings of all packages.

A file in configs/ starts from `default_config()` and changes what it needs:

    def get_config():
        config = default_config()
        config.model.name = "resnet18"
        return config

`validate` converts it to a `Config`, which is immutable: names, types, choices and ranges have been checked, and every
setting that differs from its default has an effect. `changed` returns a copy with other values.
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
    """Returns the declarations of all settings by name, in order."""
    return settings.declarations(Config)


def default_config() -> ConfigDict:
    """Returns all settings with their default values, to be changed by a file in configs/."""
    config = ConfigDict()
    for name, entry in declarations().items():
        section, _, leaf = name.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        holder, default = config[section] if section else config, entry.default
        holder[leaf] = ConfigDict(default) if isinstance(default, dict) else default
        if name in ("data.image_size", "data.cache_side"):  # a ConfigDict would refuse to replace an int by a pair
            holder[leaf] = FieldReference(default, field_type=object)
    return config


def flatten(config: ConfigDict | Section) -> dict[str, Any]:
    """Returns all values by full name, {"optimizer.learning_rate": 0.1, …}; model.arguments and task.arguments remain dicts."""
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
    """Returns `config` as a `Config`, with every name, type, choice and range checked.

    Raises:
      UserError: if a name or value is invalid, or if a setting was changed that has no effect. Names the first such setting.
    """
    return changed(config, {})


def changed(config: ConfigDict | Config, changes: Mapping[str, Any]) -> Config:
    """Returns the validated `config` with some values replaced: {"optimizer.learning_rate": 0.1, …}. Raises like `validate`."""
    values = flatten(config) | dict(changes)
    new = with_changes(Config(), values)
    for name in former.FORMER:
        for entry in flatten(new)[name]:
            former.refuse(name, entry)
    settings.refuse_without_effect(new)
    group_settings(new.optimizer, new.schedule)  # raises UserError for errors in optimizer.groups
    return new


# ── As text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(config: Config) -> str:
    """Returns a text with one line per setting: its name, value and meaning."""
    lines = [(f"{name} = {value!r}", declarations()[name].about.meaning) for name, value in flatten(config).items()]
    width = max(len(left) for left, _ in lines if len(left) < 60)
    return "\n".join(f"{left:<{width}}  # {meaning}" for left, meaning in lines)


def to_json(config: ConfigDict | Config) -> str:
    """Returns the content of config.json: {"schema": 1, "optimizer.learning_rate": 0.1, …}."""
    return json.dumps(to_saved(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Returns the `Config` stored by `to_json`; see `from_saved`."""
    return from_saved(json.loads(text), "config.json")


# ── In runs and checkpoints ─────────────────────────────────────────────────────────────────────────────────────────

SCHEMA = 1
"""Version of the stored settings. A change that older versions would misread increments it. Version 0 stored no number."""

RENAMED: dict[str, str] = {}
"""Current names of renamed settings: {"old.name": "new.name"}. Renamed augmentation operations are in data/former.py."""


class NewerSchemaError(UserError):
    """The run or checkpoint was written by a newer, incompatible version."""


def to_saved(config: ConfigDict | Config) -> dict[str, Any]:
    """Returns a config in the form in which checkpoints and config.json store it."""
    return {"schema": SCHEMA, **flatten(config)}


def from_saved(values: Mapping[str, Any], where: str) -> Config:
    """Returns the `Config` of settings stored by `to_saved` of this or an earlier version. `where` is for error messages.

    Settings that are missing in `values` get their defaults. So do settings without effect, for which earlier versions
    accepted any value.

    Raises:
      UserError: if a newer, incompatible version wrote the values, if a setting is unknown, or if a value is invalid.
    """
    values = dict(values)
    if not isinstance(schema := values.pop("schema", 0), int) or schema > SCHEMA:
        raise NewerSchemaError(
            f"{where}: schema {schema} of the settings is not supported (the latest is {SCHEMA}); use a newer jaxcnn"
        )
    new = _renamed(values) | {"optimizer.groups": _renamed(values.get("optimizer.groups", ()))}
    for name in former.FORMER:
        if isinstance(entries := new.get(name), list | tuple):
            new[name] = tuple(former.renamed(name, entry) for entry in entries)
    return _effective(with_changes(Config(), new))


def _renamed(value: Any) -> Any:
    """Replaces former names of settings in a dict of settings, or in a list that contains such dicts."""
    if isinstance(value, list | tuple):
        return [_renamed(item) for item in value]
    return {RENAMED.get(name, name): item for name, item in value.items()} if isinstance(value, Mapping) else value


def _effective(config: Config) -> Config:
    """Returns `config` with all settings that have no effect reset to their defaults."""
    while unused := settings.without_effect(config):  # a reset setting may have been the condition of another
        config = with_changes(config, {name: declarations()[name].default for name in unused})
    base = GroupSettings(config.optimizer, config.schedule)
    groups = [
        (pattern, {name: changes[name] for name in changes if name not in changes_without_effect(base, changes)})
        for pattern, changes in config.optimizer.groups
    ]
    return with_changes(config, {"optimizer.groups": groups})


def differences(old: ConfigDict | Config, new: ConfigDict | Config) -> list[str]:
    """Returns the differences between two configs in settings that change a run's result: ["seed: 0 -> 1", …]."""
    before, after = (flatten(_effective(with_changes(Config(), flatten(config)))) for config in (old, new))
    canonical_before, canonical_after = _canonical(before), _canonical(after)
    return [
        f"{name}: {before[name]!r} -> {after[name]!r}"
        for name, entry in declarations().items()
        if entry.about.changes_result and canonical_before[name] != canonical_after[name]
    ]


def _canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts values of settings to a canonical form, in which values with the same meaning are equal."""
    values = dict(values)
    for name, entry in declarations().items():
        if values[name] and is_duration(entry.hint):
            values[name] = parse_duration(name, values[name])
    if weights := values["model.pretrained"]:
        values["model.pretrained"] = os.path.normpath(os.path.expanduser(weights))
    if not values["data.random_crop"]:
        values["data.cache"] = "off"  # without random crops the cache does not change any pixels
    elif values["data.cache"] == "disk":
        values["data.cache"] = "memory"
    return values

"""Configs: the settings of jaxcnn/settings.py with values, checked; and durations.

A file in configs/ starts from `default_config()` and changes what it needs:

    def get_config():
        config = default_config()
        config.model.name = "resnet18"
        return config

`validate` then checks names, types, choices and ranges, wherever the values came from.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ml_collections import ConfigDict, FieldReference

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.settings import SETTINGS, Setting

_KINDS = {
    int: "a whole number", float: "a number", bool: "True or False", str: "a string", tuple: "a list", dict: "a dict",
}  # fmt: skip
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def names() -> list[str]:
    """The names of all settings."""
    return list(_BY_NAME)


def default_config() -> ConfigDict:
    """All settings at their defaults, to be changed by a file in configs/."""
    config = ConfigDict()
    for setting in SETTINGS:
        room, _, leaf = setting.name.rpartition(".")
        holder = config
        if room:
            if room not in config:
                config[room] = ConfigDict()
            holder = config[room]
        holder[leaf] = ConfigDict(setting.default) if isinstance(setting.default, dict) else setting.default
        if setting.pair:
            holder[leaf] = FieldReference(setting.default, field_type=object)  # takes a number and a pair
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """{"optimizer.learning_rate": 0.1, …}; model.arguments stays one dict."""
    flat: dict[str, Any] = {}

    def walk(node: ConfigDict, prefix: str) -> None:
        for name in node.keys():  # noqa: SIM118 (a ConfigDict, not a dict)
            path, value = prefix + name, node[name]
            if isinstance(_BY_NAME.get(path, Setting("", None, "")).default, dict):
                flat[path] = value.to_dict() if isinstance(value, ConfigDict) else value
            elif isinstance(value, ConfigDict):
                walk(value, path + ".")
            else:
                flat[path] = value

    walk(config, "")
    return flat


def validate(config: ConfigDict) -> ConfigDict:
    """A locked copy of `config`, in which every name, type, choice and range has been checked.

    Raises:
      UserError: names the first setting that is wrong, and what would be right.
    """
    return _resolved(flatten(config))


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """`validate` of `config` with other values for some settings: {"optimizer.learning_rate": 0.1, …}."""
    return _resolved(flatten(config) | dict(changes))


def _resolved(values: Mapping[str, Any]) -> ConfigDict:
    checked = default_config()
    for path, value in values.items():
        if path not in _BY_NAME:
            raise UserError(f"config: no setting {path!r}{did_you_mean(path, _BY_NAME)}")
        room, _, leaf = path.rpartition(".")
        value = _checked(_BY_NAME[path], value)
        (checked[room] if room else checked)[leaf] = ConfigDict(value) if isinstance(value, dict) else value
    return checked.lock()


def _checked(setting: Setting, value: Any) -> Any:
    name, default = setting.name, setting.default
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        value = _with_tuples(value)
        if setting.items is float:
            value = tuple(float(v) if type(v) is int else v for v in value)
        if setting.items and not all(type(v) is setting.items or (setting.pair and _is_pair(v)) for v in value):
            raise UserError(f"{name}: {value!r} should hold nothing but {setting.items.__name__}s")
        if setting.items is float and not all(map(math.isfinite, value)):
            raise UserError(f"{name}: {value} holds a number that is not finite")
    elif isinstance(default, dict) and isinstance(value, dict):
        value = _with_tuples(value)
    elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    elif setting.pair and _is_pair(value := _with_tuples(value)):
        height, width = (_checked(setting, side) for side in value)
        return height if height == width else (height, width)
    if type(value) is not type(default):
        pair = ", or two of them, (height, width)" if setting.pair else ""
        raise UserError(f"{name}: {value!r} is not {_KINDS[type(default)]}{pair}")
    if setting.choices and value not in setting.choices:
        raise UserError(f"{name}: no {value!r}{did_you_mean(value, setting.choices)}; there are {', '.join(setting.choices)}")
    if setting.duration and value != default:
        _parse_duration(name, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name}: {value} is not a finite number")
    if setting.least is not None and value < setting.least:
        raise UserError(f"{name}: {value} is below {setting.least:,}, the least it can be")
    if setting.most is not None and value > setting.most:
        raise UserError(f"{name}: {value} is above {setting.most:,}, the most it can be")
    return value


def _is_pair(value: Any) -> bool:
    """Whether it is (height, width)."""
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, all the way down, so that a config read back from JSON equals the one written."""
    if isinstance(value, dict):
        return {name: _with_tuples(v) for name, v in value.items()}
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list | tuple) else value


# ── Durations ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_duration(name: str, text: str) -> tuple[Fraction, str]:
    match = re.fullmatch(r"\s*(\d[\d_]*(?:\.\d+)?)\s*(step|epoch|example)s?\s*", text)
    if not match:
        raise UserError(f"{name}: {text!r} is no duration; write it as 5000steps, 10epochs or 1_000_000examples")
    return Fraction(match[1].replace("_", "")), match[2]


def duration_in_steps(name: str, text: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """How many steps "5000steps", "10epochs" or "1_000_000examples" are, rounded up; `name` is for the error message."""
    count, unit = _parse_duration(name, text)
    per_step = {"step": Fraction(1), "epoch": Fraction(batch_size, examples_per_epoch), "example": Fraction(batch_size)}
    return math.ceil(count / per_step[unit])


def durations_in_steps(name: str, texts: Sequence[str], **sizes: int) -> list[int]:
    """Those of a setting that holds several, which have to grow."""
    steps = [duration_in_steps(name, text, **sizes) for text in texts]
    if any(late <= early for early, late in itertools.pairwise([0, *steps])):
        raise UserError(f"{name}: {texts} should grow, from above 0")
    return steps


# ── As text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(config: ConfigDict) -> str:
    """Every setting, its value and its meaning, a line each."""
    values = flatten(config)
    lines = [(f"{setting.name} = {values[setting.name]!r}", setting.meaning) for setting in SETTINGS]
    width = max(len(left) for left, _ in lines if len(left) < 60)
    return "\n".join(f"{left:<{width}}  # {meaning}" for left, meaning in lines)


def to_json(config: ConfigDict) -> str:
    """The resolved config as config.json holds it: {"optimizer.learning_rate": 0.1, …}."""
    values = flatten(config)
    return json.dumps({setting.name: values[setting.name] for setting in SETTINGS}, indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The inverse of `to_json`; a setting that is newer than the text gets its default."""
    return _resolved(json.loads(text))


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """What differs between two configs in settings that change a run's result: "seed: 0 -> 1"."""
    before, after = flatten(old), flatten(new)
    same_before, same_after = _as_compared(before), _as_compared(after)
    return [
        f"{s.name}: {before[s.name]!r} -> {after[s.name]!r}"
        for s in SETTINGS
        if s.changes_result and same_before[s.name] != same_after[s.name]
    ]


def _as_compared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of settings, those equal that mean the same."""
    values = dict(values)
    for setting in SETTINGS:
        if setting.duration and values[setting.name]:
            values[setting.name] = _parse_duration(setting.name, values[setting.name])
    if weights := values["model.pretrained"]:
        values["model.pretrained"] = os.path.normpath(os.path.expanduser(weights))
    if not values["data.random_crop"]:
        values["data.cache"] = "off"  # evaluation sees the same pixels
    if values["data.cache"] == "off":
        values["data.cache_side"] = 0
    elif values["data.cache"] == "disk":
        values["data.cache"] = "memory"
    return values

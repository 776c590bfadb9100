"""Declaration and validation of settings: their types and ranges, their meanings, and the conditions of their effect.

Each package declares its settings as frozen dataclasses, one per section of a config (jaxcnn/train/settings.py, …):

    @dataclasses.dataclass(frozen=True)
    class EmaSettings(Section, section="ema"):
        decay: Annotated[Share, Setting("decay of the moving average of the weights; 0 = none")] = 0.0

A section checks its values when it is created, so EmaSettings(decay=2) raises a UserError. Types are checked by msgspec.
The same function, `checked`, checks the arguments of models and of augmentation operations.
"""

import contextlib
import dataclasses
import fnmatch
import functools
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from jaxcnn.errors import UserError, did_you_mean

S = TypeVar("S", bound="Section")
F = TypeVar("F", bound=Callable)

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Whole = Annotated[int, Meta(ge=0)]


class LowHigh:
    """Annotates a pair (low, high) that must satisfy low ≤ high."""


# ── One value ───────────────────────────────────────────────────────────────────────────────────────────────────────


def checked(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` converted to the type `hint`: lists become tuples, and an int becomes a float if a float is expected.

    Raises:
      UserError: if `value` does not match, with the message "NAME: expected …, got …".
    """
    try:
        return _converted(_plain(value), hint)
    except (msgspec.ValidationError, ValueError):
        choices = _choices(hint)
        suggestion = did_you_mean(value, map(str, choices)) if choices else ""
        raise UserError(f"{name}: expected {in_words(hint)}{';' if choices else ','} got {value!r}{suggestion}") from None


def _converted(value: Any, hint: Any) -> Any:
    inner, annotations = _parts(hint)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (typing.Union, types.UnionType):  # msgspec 0.23 crashes for a union of a number with a range and a pair
        return _first_that_fits(value, arguments)
    if origin is tuple and Ellipsis in arguments and isinstance(value, tuple):
        return tuple(_converted(item, arguments[0]) for item in value)
    result = msgspec.convert(value, hint)
    if inner is float and not math.isfinite(result):
        raise ValueError
    if any(isinstance(part, LowHigh) for part in annotations) and result[0] > result[1]:
        raise ValueError
    return result


def _first_that_fits(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        with contextlib.suppress(msgspec.ValidationError, ValueError):
            return _converted(value, hint)
    raise ValueError


def _plain(value: Any) -> Any:
    """Converts lists to tuples recursively, because JSON has no tuples, and NumPy numbers to Python numbers."""
    match value:
        case Mapping():
            return {name: _plain(v) for name, v in value.items()}
        case list() | tuple():
            return tuple(_plain(v) for v in value)
        case numbers.Integral() if type(value) not in (int, bool):
            return int(value)
        case numbers.Real() if type(value) not in (int, float, bool):
            return float(value)
        case set() | frozenset():  # msgspec would accept it as a list
            raise ValueError
    return value


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Splits Annotated[type, …] into the type and its annotations."""
    return (hint.__origin__, hint.__metadata__) if typing.get_origin(hint) is Annotated else (hint, ())


def _choices(hint: Any) -> tuple[Any, ...]:
    hint, _ = _parts(hint)
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


_WORDS = {int: "an int", float: "a finite number", bool: "True or False", str: "a string", tuple: "a list", dict: "a dict"}


def in_words(hint: Any) -> str:
    """Describes the values that a type hint accepts: "an int of at least 1"."""
    hint, annotations = _parts(hint)
    ranges = [part for part in annotations if isinstance(part, Meta)]
    if described := next((part.description for part in ranges if part.description), None):
        return described
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, arguments))
    if origin is tuple and Ellipsis in arguments:
        return "a list" if arguments[0] is Any else f"a list, each item {in_words(arguments[0])}"
    if origin is tuple:
        ordered = any(isinstance(part, LowHigh) for part in annotations)
        items = "low, high" if ordered else ", ".join(map(in_words, arguments))
        return f"({items})" + (f", each {in_words(arguments[0])}" if ordered else "")
    return _WORDS.get(origin or hint, str(hint)) + "".join(map(_range_in_words, ranges))


def _range_in_words(meta: Meta) -> str:
    least = f" above {meta.gt:,}" if meta.gt is not None else f" of at least {meta.ge:,}" if meta.ge is not None else ""
    most = f" below {meta.lt:,}" if meta.lt is not None else f" of at most {meta.le:,}" if meta.le is not None else ""
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge:,} to {meta.le:,}"
    return least + (" and" if least and most else "") + most


# ── When a setting has an effect ────────────────────────────────────────────────────────────────────────────────────


class When(NamedTuple):
    """A condition on another setting: its value matches one of `values` (shell patterns); without `values`, it is not "off"."""

    setting: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Returns whether the condition is met by the values of a config, or the config does not contain the setting."""
        if self.setting not in values:
            return True
        value = values[self.setting]
        matches = any(fnmatch.fnmatchcase(str(value), pattern) for pattern in self.values) if self.values else _is_on(value)
        return matches != self.negated

    def why_not(self, values: Mapping[str, Any]) -> str:
        """Explains in a message why the condition is not met: "with schedule.name=cosine, only with steps; "."""
        value = values[self.setting]
        current = f"with {self.setting}={str(value) or repr(value)}"
        if self.negated:
            return f"{current}; "
        if not self.values:
            return f"{current}; set {self.setting} too, or "
        return f"{current}, only with {' or '.join(filter(None, (', '.join(self.values[:-1]), self.values[-1])))}; "


def when(setting: str, *values: str) -> When:
    """Returns the condition that `setting` has one of these values or, without values, is not 0, (), "", "off" or "none"."""
    return When(setting, values)


def unless(setting: str, *values: str) -> When:
    """Returns the negation of `when(setting, *values)`."""
    return When(setting, values, negated=True)


def _is_on(value: Any) -> bool:
    return bool(value) and not re.fullmatch(r"off|none|0[0_.]*\s*(step|epoch|example)s?", str(value))


class Setting:
    """Annotates a field of a section with its meaning and the conditions under which it has an effect.

    All conditions must be met; of a tuple of conditions, at least one. A run can be resumed with another value of a setting
    only if `changes_result` is False.
    """

    def __init__(self, meaning: str, *used: When | tuple[When, ...], changes_result: bool = True) -> None:
        self.meaning, self.used, self.changes_result = meaning, used, changes_result


class Declaration(NamedTuple):
    """A setting with its full name, such as "optimizer.learning_rate"."""

    name: str
    hint: Any
    default: Any
    about: Setting
    used: tuple[When | tuple[When, ...], ...]
    """the conditions of the setting and of its section"""

    def unmet(self, values: Mapping[str, Any]) -> When | None:
        """Returns the first condition that the values of a config do not meet, or None if the setting has an effect."""
        for condition in self.used:
            alternatives = (condition,) if isinstance(condition, When) else condition
            if not any(alternative.holds(values) for alternative in alternatives):
                return alternatives[0]
        return None


# ── Sections ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Section:
    """Base class of groups of settings. Subclasses are frozen dataclasses, and their fields may be sections as well."""

    section: ClassVar[str] = ""

    def __init_subclass__(cls, section: str = "") -> None:
        cls.section = section

    def __post_init__(self) -> None:
        """Checks and converts every value. Raises a UserError that names the first wrong one."""
        for name, hint in _fields(type(self)).items():
            if not _section_of(hint):
                object.__setattr__(self, name, checked(_full(type(self), name), getattr(self, name), hint))

    def variants(self) -> list[Mapping[str, Any]]:
        """Returns the sets of changed settings that apply to a part of what is configured, such as a parameter group.

        A setting that is used with any of these changes has an effect.
        """
        return [variant for _, inner in _sections_in(self) for variant in inner.variants()]


_once_per_class: Callable[[F], F] = functools.cache  # type: ignore[assignment]  # typeshed does not accept dataclass types here


@_once_per_class
def _fields(cls: type[Section]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _full(cls: type[Section], field: str) -> str:
    return f"{cls.section}.{field}" if cls.section else field


def _section_of(hint: Any) -> type[Section] | None:
    hint, _ = _parts(hint)
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None


def _sections_in(section: Section) -> Iterator[tuple[str, Section]]:
    for name in _fields(type(section)):
        if isinstance(value := getattr(section, name), Section):
            yield name, value


@_once_per_class
def declarations(cls: type[Section]) -> dict[str, Declaration]:
    """Returns all settings of a section and of its nested sections by their full names, in order."""
    found: dict[str, Declaration] = {}
    defaults = cls()
    for name, hint in _fields(cls).items():
        about = next((part for part in _parts(hint)[1] if isinstance(part, Setting)), Setting(""))
        if inner := _section_of(hint):
            found |= {full: entry._replace(used=about.used + entry.used) for full, entry in declarations(inner).items()}
        else:
            full = _full(cls, name)
            found[full] = Declaration(full, hint, getattr(defaults, name), about, about.used)
    return found


def flatten(section: Section) -> dict[str, Any]:
    """Returns all values by full name, {"optimizer.learning_rate": 0.1, …}. Values that are dicts are kept as dicts."""
    flat: dict[str, Any] = {}
    for name in _fields(type(section)):
        value = getattr(section, name)
        flat |= flatten(value) if isinstance(value, Section) else {_full(type(section), name): value}
    return flat


def with_changes(section: S, changes: Mapping[str, Any]) -> S:
    """Returns a copy of `section` with some values replaced: {"optimizer.learning_rate": 0.1, …}.

    Raises:
      UserError: if a setting does not exist, or if a value is invalid.
    """
    known = declarations(type(section))
    for name in changes:
        if name not in known:
            raise UserError(f"config: no setting {name!r}{did_you_mean(name, known)}")
    new: dict[str, Any] = {
        name: with_changes(inner, inner_changes)
        for name, inner in _sections_in(section)
        if (inner_changes := {full: changes[full] for full in declarations(type(inner)) if full in changes})
    }
    new |= {name: changes[full] for name in _fields(type(section)) if (full := _full(type(section), name)) in changes}
    return dataclasses.replace(section, **new)


def without_effect(section: Section) -> dict[str, str]:
    """Returns the settings that differ from their defaults but have no effect, each with the reason (see `When.why_not`)."""
    values, variants = flatten(section), section.variants()

    def used_in_variant(entry: Declaration) -> bool:
        return any(entry.name not in changes and not entry.unmet(values | dict(changes)) for changes in variants)

    return {
        name: reason.why_not(values)
        for name, entry in declarations(type(section)).items()
        if values[name] != entry.default and (reason := entry.unmet(values)) and not used_in_variant(entry)
    }


def refuse_without_effect(section: Section) -> None:
    """Raises a UserError with the reason if a setting was changed that has no effect."""
    if not isinstance(section, Section):
        raise TypeError(f"expected settings such as jaxcnn.config.validate(config).data, got a {type(section).__name__}")
    values, known = flatten(section), declarations(type(section))
    for name, reason in without_effect(section).items():
        raise UserError(f"{name}: {values[name]!r} has no effect {reason}leave it at its default, {known[name].default!r}")

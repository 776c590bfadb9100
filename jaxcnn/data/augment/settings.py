"""Entries of a policy, and their settings checked against the annotations of the function that takes them.

A setting is a keyword-only argument with a default: a number (in a range), a word of a few, a yes or no, a (low, high), or
a size in pixels: the side of a square, or a (height, width).
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from jaxcnn.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Within:
    """The range of a number, or of both numbers of a (low, high)."""

    least: float
    most: float = float("inf")
    above: bool = False  # `least` itself is out

    def __contains__(self, value: float) -> bool:
        return (value > self.least if self.above else value >= self.least) and value <= self.most

    def __str__(self) -> str:
        most = "" if self.most == float("inf") else f" and at most {self.most:g}"
        return f"{'above' if self.above else 'at least'} {self.least:g}{most}"


Probability = Annotated[float, Within(0, 1)]
Positive = Annotated[float, Within(0, above=True)]
NotNegative = Annotated[float, Within(0)]
Count = Annotated[int, Within(1)]
Pixels = Annotated[int, Within(0)]
Size = Annotated[int | tuple[int, int], Within(0)]
Level = Annotated[int, Within(0, 255)]  # of a pixel
Interpolation = Literal["nearest", "bilinear"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An operation of a policy with its settings, checked."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, *inputs: Any) -> Any:
        """What its function makes of `inputs`."""
        return self.function(*inputs, **dict(self.arguments))


def parse(entry: Any, tables: Iterable[Mapping[str, Callable[..., Any]]], where: str = "data.augment") -> Entry:
    """The operation of `tables` that "name" or ("name", {"setting": value, …}) means.

    Raises:
      UserError: no such operation; no such setting, or a value of another type or out of its range.
    """
    operations = {name: function for table in tables for name, function in table.items()}
    match entry:
        case str(name) | (str(name),):
            given: Mapping[str, Any] = {}
        case (str(name), Mapping() as given):
            pass
        case _:
            raise UserError(f'{where}: {entry!r} should be "name" or ("name", {{"setting": value, …}})')
    if name not in operations:
        there = ", ".join(operations)
        raise UserError(f"{where}: no operation {name!r}{did_you_mean(name, operations)}; there are {there}")
    function = operations[name]
    parameters = inspect.signature(function).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    hints = typing.get_type_hints(function, include_extras=True)
    arguments = {}
    for setting, value in dict(given).items():
        if setting not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"{where}: {name} has no setting {setting!r}{did_you_mean(setting, known)}; it has {there}")
        arguments[setting] = _checked(f"{where}: {name}: {setting} is {value!r}", value, hints[setting], known[setting])
    return Entry(name, function, tuple(arguments.items()))


def _checked(found: str, value: Any, hint: Any, default: Any) -> Any:
    within = None
    if typing.get_origin(hint) is Annotated:
        hint, within = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value not in (words := typing.get_args(hint)):
            raise UserError(f"{found}, but should be one of {', '.join(map(repr, words))}{did_you_mean(value, words)}")
        return value
    if isinstance(hint, types.UnionType):
        numbers = tuple(value) if isinstance(value, tuple | list) else (value, value)
        if len(numbers) != 2 or not all(_is(v, int) for v in numbers):
            raise UserError(f"{found}, but pixels such as 224 or (192, 256), height and width, are meant")
        value = numbers
    elif typing.get_origin(hint) is tuple:
        pair = isinstance(value, tuple | list) and len(value) == 2
        if not pair or not all(_is(v, float) for v in value) or value[0] > value[1]:
            raise UserError(f"{found}, but (low, high) such as {default!r} is meant")
        value = tuple(map(float, value))
        numbers = value
    else:
        if not _is(value, hint):
            raise UserError(f"{found}, but a value such as {default!r} is meant")
        value = hint(value)
        numbers = (value,)
    for number in numbers:
        if within is not None and number not in within:
            raise UserError(f"{found}, but should be {within}")
    return value


def _is(value: Any, kind: type) -> bool:
    """Whether `value` is of `kind`; a whole number is good for a float, a bool for no number."""
    return type(value) is kind or (kind is float and type(value) is int)

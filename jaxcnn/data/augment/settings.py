"""Entries of a policy, and their settings checked against the annotations of the function that takes them.

A setting is a keyword-only argument with a default: a number (in a range), a word of a few, a yes or no, a (low, high), or
a size in pixels: the side of a square, or a (height, width).
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta

from jaxcnn.data import former
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.settings import LowHigh, Positive, Share, Whole, checked

Probability = Share
Pixels = Whole
Size = Annotated[Pixels | tuple[Pixels, Pixels], Meta(description="pixels such as 224, or (192, 256), height and width, or 0")]
Level = Annotated[int, Meta(ge=0, le=255)]  # of a pixel
Interpolation = Literal["nearest", "bilinear"]
PositiveRange = Annotated[tuple[Positive, Positive], LowHigh()]
_Part = Annotated[float, Meta(gt=0, le=1)]
PartRange = Annotated[tuple[_Part, _Part], LowHigh()]


class Operation(NamedTuple):
    """An operation of a policy with its settings, checked."""

    name: str
    function: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]


def parse(entry: Any, tables: Iterable[Mapping[str, Callable[..., Any]]], where: str = "data.augment") -> Operation:
    """The operation of `tables` that "name" or ("name", {"setting": value, …}) means.

    Raises:
      UserError: no such operation; no such setting, or a value of another type or out of its range.
    """
    former.refuse(where, entry)
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
        arguments[setting] = checked(f"{where}: {name}: {setting}", value, hints[setting])
    return Operation(name, function, tuple(arguments.items()))

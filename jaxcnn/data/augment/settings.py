"""Entries of a policy, and checks of their settings against the annotations of the operation's function.

A setting is a keyword-only argument with a default: a number in a range, one of several words, a bool, a pair (low, high), or
a size in pixels (the side of a square, or a pair (height, width)).
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
Level = Annotated[int, Meta(ge=0, le=255)]  # a pixel value
Interpolation = Literal["nearest", "bilinear"]
PositiveRange = Annotated[tuple[Positive, Positive], LowHigh()]
_Area = Annotated[float, Meta(gt=0, le=1)]
AreaRange = Annotated[tuple[_Area, _Area], LowHigh()]


class Operation(NamedTuple):
    """An operation of a policy with its validated settings."""

    name: str
    function: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...]


def parse(entry: Any, tables: Iterable[Mapping[str, Callable[..., Any]]], where: str = "data.augment") -> Operation:
    """Returns the operation in `tables` that an entry "name" or ("name", {"setting": value, …}) refers to.

    Raises:
      UserError: the operation or one of its settings does not exist, or a value has the wrong type or is out of range. The
        message starts with `where`.
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
        available = ", ".join(operations)
        raise UserError(f"{where}: no operation {name!r}{did_you_mean(name, operations)}; available: {available}")
    function = operations[name]
    parameters = inspect.signature(function).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    hints = typing.get_type_hints(function, include_extras=True)
    arguments = {}
    for setting, value in dict(given).items():
        if setting not in known:
            available = ", ".join(known) or "none"
            raise UserError(f"{where}: {name} has no setting {setting!r}{did_you_mean(setting, known)}; it has {available}")
        arguments[setting] = checked(f"{where}: {name}: {setting}", value, hints[setting])
    return Operation(name, function, tuple(arguments.items()))

"""Durations such as "10epochs", and their conversion to steps."""

import itertools
import math
import re
import typing
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any

from msgspec import Meta

from jaxcnn.errors import UserError

_FORM = r"\s*(\d[\d_]*(?:\.\d+)?)\s*(step|epoch|example)s?\s*"
_EXPECTED = "a duration such as 5000steps, 10epochs or 1_000_000examples"
Duration = Annotated[str, Meta(pattern=f"^{_FORM}$", description=_EXPECTED)]
DurationOrNone = Annotated[str, Meta(pattern=f"^({_FORM})?$", description=f"{_EXPECTED}, or ''")]


def is_duration(hint: Any) -> bool:
    """Returns whether a type hint is `Duration` or `DurationOrNone`, possibly with further annotations."""
    metas = (*typing.get_args(Duration)[1:], *typing.get_args(DurationOrNone)[1:])
    return any(annotation in metas for annotation in typing.get_args(hint)[1:])


def parse_duration(name: str, text: str) -> tuple[Fraction, str]:
    """Returns (count, unit), such as (10, "epoch") for "10epochs". Raises UserError, which names the setting `name`."""
    match = re.fullmatch(_FORM, text)
    if not match:
        raise UserError(f"{name}: expected {_EXPECTED}, got {text!r}")
    return Fraction(match[1].replace("_", "")), match[2]


def duration_in_steps(name: str, text: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """Returns a duration such as "10epochs" as a number of steps, rounded up. `name` is the setting for the error message."""
    count, unit = parse_duration(name, text)
    per_step = {"step": Fraction(1), "epoch": Fraction(batch_size, examples_per_epoch), "example": Fraction(batch_size)}
    return math.ceil(count / per_step[unit])


def durations_in_steps(name: str, texts: Sequence[str], **sizes: int) -> list[int]:
    """Returns several durations as numbers of steps. Raises UserError unless they are positive and strictly increasing."""
    steps = [duration_in_steps(name, text, **sizes) for text in texts]
    if any(late <= early for early, late in itertools.pairwise([0, *steps])):
        raise UserError(f"{name}: expected positive, strictly increasing durations, got {texts}")
    return steps

"""Durations, "10epochs", as steps."""

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
_WORDS = "a duration, 5000steps, 10epochs or 1_000_000examples"
Duration = Annotated[str, Meta(pattern=f"^{_FORM}$", description=_WORDS)]
DurationOrNone = Annotated[str, Meta(pattern=f"^({_FORM})?$", description=f"{_WORDS}, or ''")]


def is_duration(hint: Any) -> bool:
    """Whether an annotation is one of these, with others perhaps."""
    ours = (*typing.get_args(Duration)[1:], *typing.get_args(DurationOrNone)[1:])
    return any(part in ours for part in typing.get_args(hint)[1:])


def parse_duration(name: str, text: str) -> tuple[Fraction, str]:
    """(how many, of which unit): "10epochs" -> (10, "epoch"). Raises UserError, which names the setting `name`."""
    match = re.fullmatch(_FORM, text)
    if not match:
        raise UserError(f"{name}: expected {_WORDS}, got {text!r}")
    return Fraction(match[1].replace("_", "")), match[2]


def duration_in_steps(name: str, text: str, *, batch_size: int, examples_per_epoch: int) -> int:
    """How many steps "5000steps", "10epochs" or "1_000_000examples" are, rounded up; `name` is for the error message."""
    count, unit = parse_duration(name, text)
    per_step = {"step": Fraction(1), "epoch": Fraction(batch_size, examples_per_epoch), "example": Fraction(batch_size)}
    return math.ceil(count / per_step[unit])


def durations_in_steps(name: str, texts: Sequence[str], **sizes: int) -> list[int]:
    """Those of a setting that holds several, which have to grow."""
    steps = [duration_in_steps(name, text, **sizes) for text in texts]
    if any(late <= early for early, late in itertools.pairwise([0, *steps])):
        raise UserError(f"{name}: {texts} should grow, from above 0")
    return steps

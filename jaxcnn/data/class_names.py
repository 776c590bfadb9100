"""Normalization and order of class names."""

import re
import unicodedata
from collections.abc import Iterable


def clean(name: str) -> str:
    """Returns the name without surrounding spaces and in Unicode's composed form (NFC): macOS stores "é" as two code points."""
    return unicodedata.normalize("NFC", name.strip())


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the distinct names: sorted by value if all are integers (2 before 10), by code point otherwise."""
    distinct = sorted(set(names))
    if all(re.fullmatch(r"-?[0-9]+", name) for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)

"""Names of classes: their form and their order."""

import re
import unicodedata
from collections.abc import Iterable


def clean(name: str) -> str:
    """Without surrounding spaces, and in the composed form of Unicode (NFC): macOS writes "é" as two characters."""
    return unicodedata.normalize("NFC", name.strip())


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names: by value where all are whole numbers (2 before 10), by code point otherwise."""
    distinct = sorted(set(names))
    if all(re.fullmatch(r"-?[0-9]+", name) for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)

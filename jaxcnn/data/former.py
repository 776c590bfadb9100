"""Names that operations of data.augment and views of evaluate.views had in earlier versions.

A config has to give them the names that they have now; runs and checkpoints of earlier versions are read with those.
"""

from collections.abc import Mapping
from typing import Any

from jaxcnn.errors import UserError

FORMER: dict[str, dict[str, str]] = {
    "data.augment": {
        "flip": "horizontal_flip",
        "colour_jitter": "color_jitter",
        "grey": "grayscale",
        "solarise": "solarize",
        "posterise": "posterize",
        "equalise": "equalize",
    },
    "evaluate.views": {"flip": "horizontal_flip", "centre_crop": "center_crop"},
}


def renamed(setting: str, entry: Any) -> Any:
    """An entry of `setting` with the names of now; one without a former name is returned as it is."""
    match entry:
        case str(name):
            return FORMER[setting].get(name, name)
        case [str(name)]:
            return (renamed(setting, name),)
        case ["flip", {"axis": axis, **others}]:  # it flipped either way
            new = "vertical_flip" if axis == "vertical" else "horizontal_flip"
            return (new, others) if others else new
        case ["random_erasing", {"fill": "grey", **others}]:
            return "random_erasing", {"fill": "gray", **others}
        case [str(name), Mapping() as given]:
            return renamed(setting, name), given
    return entry


def refuse(setting: str, entry: Any) -> None:
    """Raises UserError where an entry of `setting` is an operation by a former name."""
    former, now = _name(entry), _name(renamed(setting, entry))
    if now != former:
        raise UserError(f"{setting}: {former!r} is named {now!r}")


def _name(entry: Any) -> Any:
    return entry[0] if isinstance(entry, list | tuple) and entry else entry

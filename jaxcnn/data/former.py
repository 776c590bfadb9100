"""Former names of operations in data.augment and of views in evaluate.views.

Configs must use the current names. Runs and checkpoints of earlier versions are read with their names converted.
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
    """Returns an entry of `setting` with current names; entries without former names are returned unchanged."""
    match entry:
        case str(name):
            return FORMER[setting].get(name, name)
        case [str(name)]:
            return (renamed(setting, name),)
        case ["flip", {"axis": axis, **others}]:  # the former flip had both axes
            new = "vertical_flip" if axis == "vertical" else "horizontal_flip"
            return (new, others) if others else new
        case ["random_erasing", {"fill": "grey", **others}]:
            return "random_erasing", {"fill": "gray", **others}
        case [str(name), Mapping() as given]:
            return renamed(setting, name), given
    return entry


def refuse(setting: str, entry: Any) -> None:
    """Raises UserError if an entry of `setting` uses a former name."""
    former, current = _name(entry), _name(renamed(setting, entry))
    if current != former:
        raise UserError(f"{setting}: {former!r} has been renamed to {current!r}")


def _name(entry: Any) -> Any:
    return entry[0] if isinstance(entry, list | tuple) and entry else entry

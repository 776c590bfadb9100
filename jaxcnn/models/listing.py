"""Which models there are, by name, cost, year and available weights.

What takes long to count, or belongs to packages above this one, is in costs.csv beside this file, which
`python experiments/list_models.py --update` writes: parameters and multiply-accumulates of each model's default form (as of
models/cost.py, for an image of the model's size), and whose weights it takes.
"""

import csv
import fnmatch
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.models.registry import find, names
from jaxcnn.settings import NotNegative, Whole, checked

COSTS = Path(__file__).with_name("costs.csv")


class Costs(NamedTuple):
    """A line of costs.csv."""

    name: str
    parameters: int
    macs: int
    weights: str
    """"torchvision", "keras" or "timm": whose state dicts `jaxcnn.weights.convert` takes; "other" publisher's; or "" """


def list_models(
    pattern: str = "*",
    *,
    max_parameters: float | None = None,
    max_macs: float | None = None,
    since: int | None = None,
    weights: str | None = None,
) -> list[str]:
    """The names of all models, or of those that match a shell pattern ("resnet*"), sorted.

        list_models(max_parameters=5e6, max_macs=600e6, since=2018, weights="timm")

    Args:
        pattern: the name, with * and ?
        max_parameters: parameters of the default form, at most
        max_macs: multiply-accumulates for an image of the model's own size, at most
        since: the year in which the paper was first published, at least
        weights: the library whose weights the model takes, "torchvision", "keras", "timm" or "other"; or "any"

    Raises:
        UserError: a limit is negative, or no models take weights of this name.
    """
    found = fnmatch.filter(names(), pattern)
    if since is not None:
        least = checked("list_models: since", since, Whole)
        found = [name for name in found if find(name).year >= least]
    if max_parameters is not None:
        most = checked("list_models: max_parameters", max_parameters, NotNegative)
        found = [name for name in found if costs(name).parameters <= most]
    if max_macs is not None:
        most = checked("list_models: max_macs", max_macs, NotNegative)
        found = [name for name in found if costs(name).macs <= most]
    if weights is not None:
        right = _libraries(weights)
        found = [name for name in found if costs(name).weights in right]
    return found


def costs(name: str) -> Costs:
    """What costs.csv says of the model `name`."""
    if name not in _table():
        raise UserError(f"{COSTS.name} has no line for {name}; python experiments/list_models.py --update writes it")
    return _table()[name]


def write_costs(lines: Iterable[Costs]) -> None:
    """Makes costs.csv of these lines."""
    with COSTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Costs._fields)
        writer.writerows(lines)
    _table.cache_clear()


@functools.cache
def _table() -> dict[str, Costs]:
    with COSTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["name"]: Costs(row["name"], int(row["parameters"]), int(row["macs"]), row["weights"]) for row in rows}


def _libraries(weights: str) -> set[str]:
    known = {line.weights for line in _table().values()} - {""}
    if weights != "any" and weights not in known:
        choices = [*sorted(known), "any"]
        hint = did_you_mean(weights, choices)
        raise UserError(f"list_models: weights: expected one of {', '.join(choices)}; got {weights!r}{hint}")
    return known if weights == "any" else {weights}

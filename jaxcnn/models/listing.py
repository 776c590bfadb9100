"""Lists models by name, cost, year and available weights.

The file costs.csv in this folder has the parameters and multiply-accumulates of each model (jaxcnn/models/cost.py, with default
arguments, for an image of the model's size) and the library whose weights it loads. Counting them takes minutes, and which
weights load is known to packages above this one, so `python experiments/list_models.py --update` writes the file.
"""

import csv
import fnmatch
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.models.registry import find, names
from jaxcnn.settings import NotNegative, Whole, checked

COSTS = Path(__file__).with_name("costs.csv")


class Costs(NamedTuple):
    """A row of costs.csv."""

    name: str
    parameters: int
    macs: int
    weights: str
    """whose weights `jaxcnn.weights.convert` converts: "torchvision", "keras", "timm", or "other" publishers'; "" if none"""


def list_models(
    pattern: str = "*",
    *,
    task: str = "classification",
    max_parameters: float | None = None,
    max_macs: float | None = None,
    since: int | None = None,
    weights: str | None = None,
) -> list[str]:
    """Returns the names of all models for a task, or of those that match a shell pattern ("resnet*") and the limits, sorted.

        list_models(max_parameters=5e6, max_macs=600e6, since=2018, weights="timm")

    Args:
        pattern: a shell pattern with * and ?
        task: "classification" or "segmentation"
        max_parameters: maximum number of parameters, with default arguments
        max_macs: maximum number of multiply-accumulates for an image of the model's size
        since: minimum year of the paper's first publication
        weights: the library whose weights the model loads: "torchvision", "keras", "timm" or "other"; or "any"

    Raises:
        UserError: a limit is negative, or `task` or `weights` is not one of these.
    """
    checked("list_models: task", task, Literal["classification", "segmentation"])
    matching = [name for name in fnmatch.filter(names(), pattern) if find(name).task == task]
    if since is not None:
        minimum = checked("list_models: since", since, Whole)
        matching = [name for name in matching if find(name).year >= minimum]
    if max_parameters is not None:
        maximum = checked("list_models: max_parameters", max_parameters, NotNegative)
        matching = [name for name in matching if costs(name).parameters <= maximum]
    if max_macs is not None:
        maximum = checked("list_models: max_macs", max_macs, NotNegative)
        matching = [name for name in matching if costs(name).macs <= maximum]
    if weights is not None:
        libraries = _libraries(weights)
        matching = [name for name in matching if costs(name).weights in libraries]
    return matching


def costs(name: str) -> Costs:
    """Returns the row of costs.csv for the model `name`. Raises UserError if there is none."""
    if name not in _table():
        raise UserError(f"{COSTS.name} has no row for {name}: run python experiments/list_models.py --update")
    return _table()[name]


def write_costs(lines: Iterable[Costs]) -> None:
    """Writes costs.csv."""
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
    libraries = {row.weights for row in _table().values()} - {""}
    if weights != "any" and weights not in libraries:
        choices = [*sorted(libraries), "any"]
        hint = did_you_mean(weights, choices)
        raise UserError(f"list_models: weights: expected one of {', '.join(choices)}; got {weights!r}{hint}")
    return libraries if weights == "any" else {weights}

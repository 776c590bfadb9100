"""Finds tasks by name and makes them from settings."""

import dataclasses
import typing
from typing import Any

from jaxcnn.config import Config, flatten
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.import_path import import_class
from jaxcnn.models.registry import find
from jaxcnn.settings import checked
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.segmentation import Segmentation
from jaxcnn.tasks.task import Quantity, Setup, Task

TASKS: dict[str, type[Task]] = {"classification": Classification, "segmentation": Segmentation}


def find_task(name: str) -> type[Task]:
    """Returns the task with this name, or the class at the import path "package.module:Class".

    Raises:
      UserError: the task does not exist, or the class lacks `quantities` or a required method.
    """
    if ":" in name:
        task = import_class("task.name", name, Task)
        missing = sorted(getattr(task, "__abstractmethods__", ())) + ([] if hasattr(task, "quantities") else ["quantities"])
        if missing:
            raise UserError(f"task.name: {name} does not define {', '.join(missing)}, which jaxcnn.tasks.Task requires")
        return task
    if name not in TASKS:
        raise UserError(f"task.name: no task {name!r}{did_you_mean(name, TASKS)}; available: {', '.join(TASKS)}")
    return TASKS[name]


def check_task(config: Config) -> tuple[type[Task], dict[str, Any]]:
    """Returns the class and the validated arguments of the settings `task.*`. This needs no data set.

    Raises:
      UserError: the task does not exist, an argument is unknown, missing or of the wrong type, or settings `model.*` were
        changed although the task does not use them.
    """
    name, task = config.task.name, find_task(config.task.name)
    if not task.takes_model and (different := _changed_model_settings(config)):
        raise UserError(f"{different[0]}: has no effect, as the task {name} defines its own networks; leave it out")
    if task.takes_model and task.network_task and (predicts := find(config.model.name).task) != task.network_task:
        raise UserError(
            f"model.name: {config.model.name} is a network for {predicts}, but task.name is {name}, which needs one for "
            f"{task.network_task}; jaxcnn.list_models(task={task.network_task!r}) lists them"
        )
    known = {field.name: field for field in dataclasses.fields(task) if field.kw_only}
    hints = typing.get_type_hints(task, include_extras=True) if known else {}
    for argument in config.task.arguments:
        if argument not in known:
            near, valid = did_you_mean(argument, known), ", ".join(known) or "none"
            raise UserError(f"task.arguments.{argument}: {name} has no such argument{near}; available: {valid}")
    for field in known.values():
        if field.name not in config.task.arguments and _is_required(field):
            setting = f"task.arguments.{field.name}"
            raise UserError(f"{setting}: {name} needs this argument; set --config.{setting}")
    given = config.task.arguments.items()
    return task, {argument: checked(f"task.arguments.{argument}", value, hints[argument]) for argument, value in given}


def make_task(setup: Setup) -> Task:
    """Returns the task of the settings `task.*`. Raises UserError if its settings are wrong or do not fit the data set."""
    task, arguments = check_task(setup.config)
    if missing := sorted(task.fields - set(setup.fields)):
        name, available = setup.config.task.name, ", ".join(setup.fields) or "images only"
        raise UserError(f"task.name: {name} needs the field {missing[0]!r}, but {setup.config.data.name} has {available}")
    return task.make(setup, **arguments)


def _changed_model_settings(config: Config) -> list[str]:
    values, default = flatten(config), flatten(Config())
    return [name for name in default if name.startswith("model.") and values[name] != default[name]]


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def selecting_quantity(task: Task, metric: str) -> Quantity | None:
    """Returns the quantity that selects checkpoints and triggers early stopping.

    This is `metric` (the setting evaluate.metric) or, if that is empty, the first quantity of the task whose `better` is set.
    None if no quantity can select checkpoints. Raises UserError if `metric` can't.
    """
    selecting = {quantity.name: quantity for quantity in task.quantities if quantity.better}
    if metric and metric not in selecting:
        near, valid = did_you_mean(metric, selecting), ", ".join(selecting) or "none"
        raise UserError(f"evaluate.metric: the task can't select checkpoints by {metric!r}{near}; available: {valid}")
    return selecting[metric] if metric else next(iter(selecting.values()), None)

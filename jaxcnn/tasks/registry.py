"""Tasks by name."""

import dataclasses
import typing
from typing import Any

from jaxcnn.config import Config, flatten
from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.import_path import import_class
from jaxcnn.settings import checked
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.task import Quantity, Setup, Task

TASKS: dict[str, type[Task]] = {"classification": Classification}


def find_task(name: str) -> type[Task]:
    """The task of this name, or the class "package.module:Class".

    Raises:
      UserError: there is none; or it lacks a method, or its quantities.
    """
    if ":" in name:
        task = import_class("task.name", name, Task)
        missing = sorted(getattr(task, "__abstractmethods__", ())) + ([] if hasattr(task, "quantities") else ["quantities"])
        if missing:
            raise UserError(f"task.name: {name} does not define {', '.join(missing)}, which jaxcnn.tasks.Task asks for")
        return task
    if name not in TASKS:
        raise UserError(f"task.name: no task {name!r}{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}")
    return TASKS[name]


def check_task(config: Config) -> tuple[type[Task], dict[str, Any]]:
    """The task of the settings `task.*` and its arguments, before the data are known.

    Raises:
      UserError: no such task; an argument that it lacks or does not have, or of another type; changed settings `model.*` that
        it does not use.
    """
    name, task = config.task.name, find_task(config.task.name)
    if not task.takes_model and (different := _changed_model_settings(config)):
        raise UserError(f"{different[0]}: has no effect, as the task {name} has networks of its own; leave it out")
    known = {field.name: field for field in dataclasses.fields(task) if field.kw_only}
    hints = typing.get_type_hints(task, include_extras=True) if known else {}
    for argument in config.task.arguments:
        if argument not in known:
            near, valid = did_you_mean(argument, known), ", ".join(known) or "none"
            raise UserError(f"task.arguments.{argument}: {name} has no such argument{near}; it takes {valid}")
    for field in known.values():
        if field.name not in config.task.arguments and _is_required(field):
            setting = f"task.arguments.{field.name}"
            raise UserError(f"{setting}: {name} needs this argument; set --config.{setting}")
    given = config.task.arguments.items()
    return task, {argument: checked(f"task.arguments.{argument}", value, hints[argument]) for argument, value in given}


def make_task(setup: Setup) -> Task:
    """The task of the settings `task.*`. Raises UserError where it or its settings do not fit the data."""
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
    """The quantity that selects checkpoints and stops early: `metric` (the setting evaluate.metric), or the task's first.

    None where no quantity of the task is better higher or lower. Raises UserError where the task does not report `metric`.
    """
    able = {quantity.name: quantity for quantity in task.quantities if quantity.better}
    if metric and metric not in able:
        valid = ", ".join(able) or "none"
        raise UserError(f"evaluate.metric: the task has no {metric!r} to select by{did_you_mean(metric, able)}; it has {valid}")
    return able[metric] if metric else next(iter(able.values()), None)

"""A value other than the default for each setting, and the settings that it requires to have an effect."""

from typing import Literal, get_args, get_origin

from jaxcnn.config import declarations
from jaxcnn.durations import is_duration
from jaxcnn.settings import When

OTHERS = {
    "data.mean": (0.5,),
    "data.std": (0.5,),
    "data.window": (0.0, 10.0),
    "data.random_crop": ((0.5, 1.0), (1.0, 1.0)),
    "data.sizes": (64,),
    "data.size_boundaries": ("5steps",),
    "optimizer.weight_decay_factors": (("fc", 0.5),),
    "optimizer.learning_rate_factors": (("fc", 0.5),),
    "optimizer.groups": (("fc", {"optimizer.learning_rate": 0.5}),),
    "optimizer.muon_coefficients": (1.0, 2.0, 3.0),
    "schedule.boundaries": ("5steps",),
}


def another(entry):
    """Returns a valid value that is not the default."""
    if entry.name in OTHERS:
        return OTHERS[entry.name]
    if get_origin(kind := get_args(entry.hint)[0]) is Literal:
        return next(choice for choice in get_args(kind) if choice != entry.default)
    if is_duration(entry.hint):
        return "123steps"
    return {str: "other", tuple: ("other",), dict: {"other": 1}, bool: True, int: 3, float: 0.25}[type(entry.default)]


def needed(name):
    """Returns the changes with which a setting has an effect, from the conditions that it declares."""
    changes = {}
    for condition in declarations()[name].used:
        setting, values, negated = condition if isinstance(condition, When) else condition[0]
        if negated:
            changes |= {setting: "arrays"} if setting == "data.name" else {}
        else:
            changes |= needed(setting) | {setting: values[0] if values else another(declarations()[setting])}
    return changes

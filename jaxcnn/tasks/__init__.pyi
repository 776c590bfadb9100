from .registry import find_task, make_task
from .settings import LossSettings, TaskSettings
from .task import Keys, Phase, Setup, Task

__all__ = [
    "Keys",
    "LossSettings",
    "Phase",
    "Setup",
    "Task",
    "TaskSettings",
    "find_task",
    "make_task",
]

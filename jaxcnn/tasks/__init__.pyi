from .registry import find_task, make_task
from .settings import LossSettings, TaskSettings
from .task import Keys, Phase, Setup, Task, init_network

__all__ = [
    "Keys",
    "LossSettings",
    "Phase",
    "Setup",
    "Task",
    "TaskSettings",
    "find_task",
    "init_network",
    "make_task",
]

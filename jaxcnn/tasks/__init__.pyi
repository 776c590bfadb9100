from .settings import LossSettings, TaskSettings

__all__ = [
    "LossSettings",
    "TaskSettings",
]

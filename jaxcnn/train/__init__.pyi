from .predictions import predict_each, predict_files
from .settings import OptimizerSettings, ScheduleSettings
from .trained import Trained, evaluate, from_pretrained, load_trained, load_weights
from .training import Interrupted, Run, run

__all__ = [
    "Interrupted",
    "OptimizerSettings",
    "Run",
    "ScheduleSettings",
    "Trained",
    "evaluate",
    "from_pretrained",
    "load_trained",
    "load_weights",
    "predict_each",
    "predict_files",
    "run",
]

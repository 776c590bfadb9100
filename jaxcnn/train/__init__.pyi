from .loop import Interrupted, run
from .predictions import predict_each, predict_files, ranked
from .settings import OptimizerSettings, ScheduleSettings
from .trained import Trained, evaluate, from_pretrained, load_trained, load_weights

__all__ = [
    "Interrupted",
    "OptimizerSettings",
    "ScheduleSettings",
    "Trained",
    "evaluate",
    "from_pretrained",
    "load_trained",
    "load_weights",
    "predict_each",
    "predict_files",
    "ranked",
    "run",
]

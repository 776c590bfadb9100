from . import config, data, evaluate, layers, models, pretrained, report, robustness, tasks, train, weights
from .models import create_model, feature_maps, list_models
from .pretrained import load_pretrained, save_pretrained

__version__: str

__all__ = [
    "config",
    "create_model",
    "data",
    "evaluate",
    "feature_maps",
    "layers",
    "list_models",
    "load_pretrained",
    "models",
    "pretrained",
    "report",
    "robustness",
    "save_pretrained",
    "tasks",
    "train",
    "weights",
]

from .features import feature_maps
from .registry import create_model, list_models
from .settings import ModelSettings

__all__ = [
    "ModelSettings",
    "create_model",
    "feature_maps",
    "list_models",
]

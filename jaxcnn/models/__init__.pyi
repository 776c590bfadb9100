from .features import feature_maps
from .listing import list_models
from .registry import create_model
from .settings import ModelSettings

__all__ = [
    "ModelSettings",
    "create_model",
    "feature_maps",
    "list_models",
]

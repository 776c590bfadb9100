"""Architectures: one file a family. `create_model(name, **arguments)` makes one, `list_models(pattern)` lists them."""

import importlib
import pkgutil

from jaxcnn.models.features import feature_maps
from jaxcnn.models.registry import create_model, list_models

for _file in pkgutil.iter_modules(__path__):  # a family declares its variants when it is imported
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["create_model", "feature_maps", "list_models"]

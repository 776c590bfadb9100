"""Convolutional networks trained, checked and reproduced in JAX.

jaxcnn.create_model and jaxcnn.list_models give architectures, jaxcnn.load_pretrained one with its weights and its
preprocessing; jaxcnn.train.run(config, workdir) trains one.
"""

import importlib
from typing import Any

from jaxcnn.models import create_model, feature_maps, list_models

__all__ = ["create_model", "feature_maps", "list_models", "load_pretrained"]

_ROOMS = ("config", "data", "evaluate", "layers", "models", "pretrained", "report", "train", "weights")


def __getattr__(name: str) -> Any:
    """jaxcnn.train and the other rooms, imported when they are first used: `import jaxcnn` stays quick."""
    if name == "load_pretrained":
        return importlib.import_module("jaxcnn.pretrained").load_pretrained
    if name in _ROOMS:
        return importlib.import_module(f"jaxcnn.{name}")
    raise AttributeError(f"module 'jaxcnn' has no attribute {name!r}")

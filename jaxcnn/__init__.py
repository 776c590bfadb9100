"""Convolutional networks trained, checked and reproduced in JAX.

jaxcnn.create_model and jaxcnn.list_models give architectures, jaxcnn.load_pretrained one with its weights and its
preprocessing, which jaxcnn.save_pretrained writes; jaxcnn.train.run(config, workdir) trains one.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcnn.models import create_model, feature_maps, list_models
    from jaxcnn.pretrained import load_pretrained, save_pretrained

__all__ = ["create_model", "feature_maps", "list_models", "load_pretrained", "save_pretrained"]

_PACKAGES = ("config", "data", "evaluate", "layers", "models", "pretrained", "report", "train", "weights")


def __getattr__(name: str) -> Any:
    """All of it, imported when it is first used: `import jaxcnn` and every command's --help stay quick.

    And nothing of JAX is imported before a command has set its environment (jaxcnn/start.py).
    """
    if name in __all__:
        package = "pretrained" if name.endswith("_pretrained") else "models"
        return getattr(importlib.import_module(f"jaxcnn.{package}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"jaxcnn.{name}")
    raise AttributeError(f"module 'jaxcnn' has no attribute {name!r}")

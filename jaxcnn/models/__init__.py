"""Architectures: one file a family. `create_model(name, **arguments)` makes one, `list_models(pattern)` lists them."""

from jaxcnn.models import (  # noqa: F401 (their variants are declared)
    efficientnet,
    lenet,
    mnasnet,
    mobile_timm,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_v4,
    resnet,
    resnet_cifar,
)
from jaxcnn.models.features import feature_maps
from jaxcnn.models.registry import create_model, list_models

__all__ = ["create_model", "feature_maps", "list_models"]

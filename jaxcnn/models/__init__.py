"""Architectures: one file a family. `create_model(name, **arguments)` makes one, `list_models(pattern)` lists them."""

from jaxcnn.models import (  # noqa: F401 (their variants are declared)
    alexnet,
    all_cnn,
    densenet,
    lenet,
    nin,
    resnet,
    resnet_cifar,
    squeezenet,
    vgg,
)
from jaxcnn.models.features import feature_maps
from jaxcnn.models.registry import create_model, list_models

__all__ = ["create_model", "feature_maps", "list_models"]

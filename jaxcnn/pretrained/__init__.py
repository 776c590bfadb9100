"""Reads, adapts and writes trained networks together with their preprocessing and class names."""

from jaxcnn.pretrained.adapt import (
    class_difference,
    fit,
    for_channels,
    head_order,
    known_differences,
    other_preprocessing,
    stated_names,
    stem_channels,
)
from jaxcnn.pretrained.load import Pretrained, class_names, find_pretrained, load_origin, load_pretrained
from jaxcnn.pretrained.save import save_pretrained

__all__ = [
    "Pretrained",
    "class_difference",
    "class_names",
    "find_pretrained",
    "fit",
    "for_channels",
    "head_order",
    "known_differences",
    "load_origin",
    "load_pretrained",
    "other_preprocessing",
    "save_pretrained",
    "stated_names",
    "stem_channels",
]

"""Reads, adapts and writes trained networks together with their preprocessing and class names."""

from jaxcnn.pretrained.adapt import (
    TaskKind,
    as_encoder,
    class_difference,
    fit,
    for_channels,
    head_order,
    known_differences,
    other_preprocessing,
    outputs_of,
    stated_names,
    stem_channels,
)
from jaxcnn.pretrained.load import Pretrained, class_names, find_pretrained, find_start, load_origin, load_pretrained
from jaxcnn.pretrained.save import save_pretrained

__all__ = [
    "Pretrained",
    "TaskKind",
    "as_encoder",
    "class_difference",
    "class_names",
    "find_pretrained",
    "find_start",
    "fit",
    "for_channels",
    "head_order",
    "known_differences",
    "load_origin",
    "load_pretrained",
    "other_preprocessing",
    "outputs_of",
    "save_pretrained",
    "stated_names",
    "stem_channels",
]

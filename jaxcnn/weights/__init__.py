"""Reads, converts and writes weights in the formats of other libraries."""

from jaxcnn.weights.convert import adapt_stem, convert, export, has_layer, library, load, number_of_classes
from jaxcnn.weights.files import parse_json, read, read_metadata, write, write_bytes
from jaxcnn.weights.head import check_shapes, class_axes, reordered, with_fresh, without_classes
from jaxcnn.weights.hub import fetch

__all__ = [
    "adapt_stem",
    "check_shapes",
    "class_axes",
    "convert",
    "export",
    "fetch",
    "has_layer",
    "library",
    "load",
    "number_of_classes",
    "parse_json",
    "read",
    "read_metadata",
    "reordered",
    "with_fresh",
    "without_classes",
    "write",
    "write_bytes",
]

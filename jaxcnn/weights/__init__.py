"""Other people's parameters."""

from jaxcnn.weights.convert import adapt_stem, convert, export, library, load, number_of_classes, with_fresh
from jaxcnn.weights.files import read

__all__ = ["adapt_stem", "convert", "export", "library", "load", "number_of_classes", "read", "with_fresh"]

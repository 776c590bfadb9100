"""Other people's parameters."""

from jaxcnn.weights.convert import adapt_stem, convert, export, load
from jaxcnn.weights.files import read

__all__ = ["adapt_stem", "convert", "export", "load", "read"]

"""Other people's parameters."""

from jaxcnn.weights.convert import adapt_stem, convert, load
from jaxcnn.weights.files import read

__all__ = ["adapt_stem", "convert", "load", "read"]

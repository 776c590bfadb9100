"""Other people's parameters."""

from jaxcnn.weights.convert import convert, load
from jaxcnn.weights.files import read

__all__ = ["convert", "load", "read"]

"""Data: where examples come from, their order and batches, their preprocessing and augmentation."""

from jaxcnn.data.augment import make_augmentation
from jaxcnn.data.decode import read_image
from jaxcnn.data.pipeline import Batch, Order, Reader, batches_once, make_reader
from jaxcnn.data.preprocessing import Preprocessing, make_preprocessing
from jaxcnn.data.sources import ArraySource, Dataset, Source, load

__all__ = [
    "ArraySource",
    "Batch",
    "Dataset",
    "Order",
    "Preprocessing",
    "Reader",
    "Source",
    "batches_once",
    "load",
    "make_augmentation",
    "make_preprocessing",
    "make_reader",
    "read_image",
]

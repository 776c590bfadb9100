"""Data: where examples come from, their order and batches, their preprocessing and augmentation."""

from jaxcnn.data.augment import make_augmentation
from jaxcnn.data.load import load
from jaxcnn.data.pipeline import BalancedOrder, Batch, Once, Order, Reader, Reading, batches_once, make_reader
from jaxcnn.data.preprocessing import Preprocessing, make_preprocessing
from jaxcnn.data.sources import ArraySource, Dataset, Source

__all__ = [
    "ArraySource",
    "BalancedOrder",
    "Batch",
    "Dataset",
    "Once",
    "Order",
    "Preprocessing",
    "Reader",
    "Reading",
    "Source",
    "batches_once",
    "load",
    "make_augmentation",
    "make_preprocessing",
    "make_reader",
]

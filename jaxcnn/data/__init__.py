"""Data: where examples come from, their order and batches, their preprocessing and augmentation."""

from jaxcnn.data.augment import Augmentation, View, make_augmentation, make_views, step_keys
from jaxcnn.data.load import load
from jaxcnn.data.pipeline import BalancedOrder, Batch, Once, Order, Reader, Reading, batches_once, make_reader
from jaxcnn.data.preprocessing import Preprocessing, make_preprocessing
from jaxcnn.data.sources import ArraySource, Dataset, Source

__all__ = [
    "ArraySource",
    "Augmentation",
    "BalancedOrder",
    "Batch",
    "Dataset",
    "Once",
    "Order",
    "Preprocessing",
    "Reader",
    "Reading",
    "Source",
    "View",
    "batches_once",
    "load",
    "make_augmentation",
    "make_preprocessing",
    "make_reader",
    "make_views",
    "step_keys",
]

"""Data: where examples come from, their order and batches, their preprocessing and augmentation."""

from jaxcnn.data.augment import Augmentation, View, key_of_run, make_augmentation, make_views, step_keys
from jaxcnn.data.fields import Field
from jaxcnn.data.load import load
from jaxcnn.data.one_size import as_evaluated
from jaxcnn.data.order import BalancedOrder, Once, Order
from jaxcnn.data.photo import Photo
from jaxcnn.data.pipeline import batches_once, make_reader
from jaxcnn.data.preprocessing import Preprocessing, make_preprocessing
from jaxcnn.data.reading import Batch, Reader, Reading, cores
from jaxcnn.data.sizes import Sizes
from jaxcnn.data.sources import ArraySource, Dataset, Resized, Source

__all__ = [
    "ArraySource",
    "Augmentation",
    "BalancedOrder",
    "Batch",
    "Dataset",
    "Field",
    "Once",
    "Order",
    "Photo",
    "Preprocessing",
    "Reader",
    "Reading",
    "Resized",
    "Sizes",
    "Source",
    "View",
    "as_evaluated",
    "batches_once",
    "cores",
    "key_of_run",
    "load",
    "make_augmentation",
    "make_preprocessing",
    "make_reader",
    "make_views",
    "step_keys",
]

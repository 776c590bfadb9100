from .augment import Augmentation, InferenceView, key_of_run, make_augmentation, make_views, step_keys
from .fields import Field
from .loading import load
from .one_size import as_evaluated
from .order import BalancedOrder, Once, Order
from .photo import Photo
from .pipeline import batches_once, make_reader
from .preprocessing import Preprocessing, make_preprocessing
from .reading import Batch, Reader, Reading, cores, none_readable_error, read_example, read_or_none
from .settings import DataSettings
from .sizes import Sizes
from .sources import ArraySource, Dataset, Resized, Source, apply_view, training_view

__all__ = [
    "ArraySource",
    "Augmentation",
    "BalancedOrder",
    "Batch",
    "DataSettings",
    "Dataset",
    "Field",
    "InferenceView",
    "Once",
    "Order",
    "Photo",
    "Preprocessing",
    "Reader",
    "Reading",
    "Resized",
    "Sizes",
    "Source",
    "apply_view",
    "as_evaluated",
    "batches_once",
    "cores",
    "key_of_run",
    "load",
    "make_augmentation",
    "make_preprocessing",
    "make_reader",
    "make_views",
    "none_readable_error",
    "read_example",
    "read_or_none",
    "step_keys",
    "training_view",
]

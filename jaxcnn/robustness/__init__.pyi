from .corrupted import Corrupted
from .corruptions import COUNTED, NAMES, corrupt
from .mce import ALEXNET_ERRORS, mean_corruption_error
from .severities import FORMS, SEVERITIES, form_of

__all__ = [
    "ALEXNET_ERRORS",
    "COUNTED",
    "FORMS",
    "NAMES",
    "SEVERITIES",
    "Corrupted",
    "corrupt",
    "form_of",
    "mean_corruption_error",
]

from .evaluator import collect, finite, make_predict, make_tally, measure
from .settings import EvaluateSettings

__all__ = [
    "EvaluateSettings",
    "collect",
    "finite",
    "make_predict",
    "make_tally",
    "measure",
]

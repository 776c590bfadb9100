"""Evaluation: metrics over exactly N examples."""

from jaxcnn.evaluate.evaluator import collect, finite, make_predict, measure
from jaxcnn.evaluate.metrics import Task, probabilities

__all__ = ["Task", "collect", "finite", "make_predict", "measure", "probabilities"]

"""Evaluation: metrics over exactly N examples."""

from jaxcnn.evaluate.evaluator import collect, make_predict, measure
from jaxcnn.evaluate.metrics import Task, probabilities

__all__ = ["Task", "collect", "make_predict", "measure", "probabilities"]

"""Evaluation: metrics over exactly N examples."""

from jaxcnn.evaluate.evaluator import collect, finite, make_predict, measure

__all__ = ["collect", "finite", "make_predict", "measure"]

"""Evaluation: figures over exactly N examples."""

from jaxcnn.evaluate.evaluator import collect, finite, make_predict, make_tally, measure

__all__ = ["collect", "finite", "make_predict", "make_tally", "measure"]

"""Training: `run(config, workdir)` is all of it; `load_trained(workdir)` gives back what it made."""

from jaxcnn.train.predictions import predict_each, predict_files
from jaxcnn.train.run import Interrupted, Run, run
from jaxcnn.train.trained import Trained, evaluate, from_pretrained, load_trained, load_weights

__all__ = [
    "Interrupted",
    "Run",
    "Trained",
    "evaluate",
    "from_pretrained",
    "load_trained",
    "load_weights",
    "predict_each",
    "predict_files",
    "run",
]

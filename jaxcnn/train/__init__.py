"""Training: `run(config, workdir)` is the whole of it; `load_trained(workdir)` gives back what it made."""

from jaxcnn.train.loop import Interrupted, run
from jaxcnn.train.predictions import predict_each, predict_files, ranked
from jaxcnn.train.trained import Trained, evaluate, from_pretrained, load_trained, load_weights

__all__ = [
    "Interrupted",
    "Trained",
    "evaluate",
    "from_pretrained",
    "load_trained",
    "load_weights",
    "predict_each",
    "predict_files",
    "ranked",
    "run",
]

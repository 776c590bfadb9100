"""Training: `run(config, workdir)` is the whole of it; `load_trained(workdir)` gives back what it made."""

from jaxcnn.train.loop import Interrupted, run
from jaxcnn.train.trained import Trained, load_trained

__all__ = ["Interrupted", "Trained", "load_trained", "run"]

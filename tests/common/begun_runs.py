"""Creates folders of runs that have a checkpoint, without training."""

import jax
import jax.numpy as jnp

from jaxcnn.config import to_json, validate
from jaxcnn.train import resume
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import prepare


def begin(workdir, config, step=7, **meta):
    """Writes config.json and a checkpoint at `step` with a state of zeros. Returns the experiment."""
    experiment = prepare(validate(config))
    zeros = jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), experiment.state_template())
    parts = {"interval": {}, "seconds": dict.fromkeys(("wall", "compile", "initial", "training"), 1.0), "history": []}
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(
        zeros.replace(step=zeros.step + step), resume.record(experiment, "") | parts | {"step": step} | meta, best_step=None
    )
    checkpoints.close()
    (workdir / "config.json").write_text(to_json(experiment.config))
    return experiment

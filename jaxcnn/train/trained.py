"""A trained network, as its checkpoints give it back: with its preprocessing and class names, and nothing else needed."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxcnn.config import from_json
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.evaluate import Task
from jaxcnn.models import create_model
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import make_mesh, replicated_shapes
from jaxcnn.train.state import Variables, init_variables


@dataclasses.dataclass(frozen=True)
class Trained:
    """What prediction and evaluation take."""

    model: nn.Module
    variables: Variables
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    task: Task
    config: ConfigDict
    step: int
    mesh: Mesh


def load_trained(workdir: str | Path, *, warn: Callable[[str], None] = print) -> Trained:
    """The parameters that the run in `workdir` selected (evaluate.select; their average where ema.decay is set).

    Raises:
      UserError: no run there, or no checkpoint that can be read.
    """
    workdir = Path(workdir)
    if not (workdir / "config.json").exists() or not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir: {workdir} holds no trained run; experiments/train.py --workdir={workdir} makes one")
    checkpoints = Checkpoints(workdir / "checkpoints", warn=warn)
    try:
        meta = checkpoints.latest_meta()
        if meta is None:
            raise UserError(f"--workdir: {workdir} holds no checkpoint that can be read")
        config = from_json((workdir / "config.json").read_text())
        preprocessing = Preprocessing.from_json(meta["preprocessing"])
        model = create_model(meta["model"]["name"], **meta["model"]["arguments"], dtype=meta["model"]["dtype"])
        mesh = make_mesh(config.devices)
        template = replicated_shapes(lambda key: init_variables(model, preprocessing.input_shape, key), mesh)
        step, variables = selected_variables(checkpoints, config, template, meta["best_step"])
    finally:
        checkpoints.close()
    return Trained(
        model, variables, preprocessing, tuple(meta["class_names"]), meta["task"], config, step, mesh
    )


def selected_variables(
    checkpoints: Checkpoints, config: ConfigDict, template: Variables, best_step: int | None
) -> tuple[int, Variables]:
    """The step and the parameters that count: best or last, averaged or not; the next later ones if they are damaged."""
    steps = checkpoints.steps()
    wanted = best_step if config.evaluate.select == "best" and best_step is not None else steps[-1]
    name = "ema" if config.ema.decay else "variables"
    for step in [wanted, *(s for s in reversed(steps) if s != wanted)]:
        variables = checkpoints.restore_variables(step, template, name)
        if variables is not None:
            return step, variables
    raise UserError(f"none of the checkpoints {steps} can be read")


def shapes_of(variables: Variables) -> Variables:
    """Shapes and shardings, to restore others of the kind into."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), variables)

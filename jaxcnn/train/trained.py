"""A trained network, as its checkpoints give it back: with its preprocessing and class names, and nothing else needed."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxcnn import data
from jaxcnn.config import default_config, from_json, validate
from jaxcnn.data import Preprocessing
from jaxcnn.errors import UserError
from jaxcnn.evaluate import Task, collect, make_predict, measure, probabilities
from jaxcnn.models import create_model
from jaxcnn.pretrained import class_names, find_pretrained, load_pretrained
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import batches_once, make_mesh, prepare, reading, replicated, replicated_shapes
from jaxcnn.train.losses import evaluation_losses
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

    def predict(self) -> jax.stages.Wrapped:
        """The jitted forward pass, over the views of evaluate.views."""
        return make_predict(self.model, self.preprocessing, self.mesh, data.make_views(self.config.evaluate.views))


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
    return Trained(model, variables, preprocessing, tuple(meta["class_names"]), meta["task"], config, step, mesh)


def load_weights(config: ConfigDict, *, say: Callable[[str], None] = lambda line: None) -> Trained:
    """The weights in model.pretrained, with the preprocessing and the classes that the config and its data give."""
    config = validate(config)
    if not config.model.pretrained:
        raise UserError("model.pretrained: say which weights are meant, --config.model.pretrained=FILE")
    experiment = prepare(config)
    return Trained(
        experiment.model,
        jax.device_put(experiment.pretrained_variables(say, new_head=False), replicated(experiment.mesh)),
        experiment.preprocessing,
        experiment.dataset.class_names,
        experiment.task,
        config,
        0,
        experiment.mesh,
    )


def from_pretrained(source: str, name: str | None = None) -> Trained:
    """What jaxcnn.load_pretrained gives, with the names of its classes."""
    origin, config = find_pretrained(source, name), default_config()
    model, variables, preprocessing = load_pretrained(source, name)
    config.model.name, config.model.pretrained = origin.name, source
    mesh = make_mesh()
    names = class_names(origin, model.num_classes)
    variables = jax.device_put(variables, replicated(mesh))
    return Trained(model, variables, preprocessing, names, "multiclass", validate(config), 0, mesh)


def evaluate(
    trained: Trained,
    split: str = "test",
    *,
    data_root: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """{"test_accuracy", "test_loss", "test_examples", perhaps "test_top5_accuracy"}, or so for another split.

    The data set is that of the run's config, or at `data_root`. `say` is told which images were skipped.
    """
    config = trained.config.copy_and_resolve_references()
    with config.unlocked():
        config.data.root = data_root or config.data.root
    dataset = data.load(config.data, config.seed)
    source = getattr(dataset, split)
    if source is None:
        raise UserError(f"--split: there is no {split} set in this run; data.validation was 0")
    if dataset.class_names != trained.class_names:
        raise UserError(f"{config.data.name}: its classes are not those of the network: {', '.join(trained.class_names[:10])}")
    if source.image_shape != trained.preprocessing.image_shape:
        raise UserError(
            f"{config.data.name}: its images are {source.image_shape}, the network's {trained.preprocessing.image_shape}"
        )
    predict, how = trained.predict(), reading(config)
    (logits,), labels = collect(predict, [trained.variables], batches_once(config, source, trained.mesh, how)())
    if how.skipped:
        say(how.skipped_line())
    figures = measure(logits, labels, trained.task, evaluation_losses(config.loss))
    return {f"{split}_{name}": value for name, value in figures.items()}


def predict_files(trained: Trained, files: Sequence[str | Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is on pictures: [{"file", "classes": [{"name", "probability"}, most probable first]}], and a line for each
    file that can't be read.
    """
    images, names, unreadable = [], [], []
    for file in files:
        try:
            images.append(trained.preprocessing.read(file))
            names.append(str(file))
        except UserError as mistake:
            unreadable.append(str(mistake))
    if not images:
        return [], unreadable
    predict = trained.predict()
    logits = predict(trained.variables, np.stack(images)[None])
    results = []
    for name, row in zip(names, probabilities(np.asarray(logits), trained.task), strict=True):
        best_first = np.argsort(-row, kind="stable")
        classes = [{"name": trained.class_names[i], "probability": float(row[i])} for i in best_first]
        results.append({"file": name, "classes": classes})
    return results, unreadable


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

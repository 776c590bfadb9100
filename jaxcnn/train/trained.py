"""A trained network, as its checkpoints give it back: with its preprocessing and class names, and nothing else needed."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxcnn import data
from jaxcnn.config import Config, changed, from_saved, validate
from jaxcnn.data import Preprocessing, foreign
from jaxcnn.data.sources import FileSource
from jaxcnn.errors import UserError
from jaxcnn.evaluate import collect, make_predict, measure
from jaxcnn.files import user_path
from jaxcnn.models import create_model
from jaxcnn.pretrained import class_names, find_pretrained, load_origin
from jaxcnn.tasks.classification_metrics import LabelKind
from jaxcnn.tasks.losses import evaluation_losses
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.experiment import batches_once, make_mesh, prepare, reading, replicated, replicated_shapes
from jaxcnn.train.fingerprint import data_differences, fingerprint
from jaxcnn.train.state import Variables, init_variables


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What prediction and evaluation take."""

    model: nn.Module
    variables: Variables
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    task: LabelKind
    config: Config
    step: int
    mesh: Mesh
    data: dict[str, Any] | None = None
    """which examples it was trained on, see fingerprint; None where that is not known"""

    def predict(self) -> jax.stages.Wrapped:
        """The jitted forward pass, over the views of evaluate.views."""
        return make_predict(self.model, self.preprocessing, self.mesh, data.make_views(self.config.evaluate.views))


def load_trained(workdir: str | Path, *, step: int | None = None, warn: Callable[[str], None] = _to_stderr) -> Trained:
    """The parameters that the run in `workdir` selected (evaluate.select; their average where ema.decay is set), or of `step`.

    Raises:
      UserError: no run there, no checkpoint that can be read, or not the selected one.
    """
    workdir = user_path(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"--workdir: {workdir} holds no trained run; experiments/train.py --workdir={workdir} makes one")
    said: list[str] = []
    checkpoints = Checkpoints(workdir / "checkpoints", warn=said.append)
    try:
        meta = checkpoints.latest_meta()
        if meta is None:
            raise UserError(f"--workdir: {workdir} holds no checkpoint that can be read")
        if said and step is None:  # the latest one may name another best step
            raise UserError(f"--workdir: {workdir}: {said[0]}, so no step is selected; {_others(checkpoints)}")
        config = from_saved(meta["config"], f"--workdir: {workdir}")
        preprocessing = Preprocessing.from_json(meta["preprocessing"])
        model = create_model(meta["model"]["name"], **meta["model"]["arguments"], dtype=meta["model"]["dtype"])
        mesh = make_mesh(config.devices)
        template = replicated_shapes(lambda key: init_variables(model, preprocessing.input_shape, key), mesh)
        wanted = _selected_step(checkpoints, config, meta["best_step"]) if step is None else step
        variables = _restored(checkpoints, config, template, wanted)
        if variables is None:
            reason = said[-1] if wanted in checkpoints.steps() else f"there is no checkpoint of step {wanted}"
            raise UserError(f"--workdir: {workdir}: {reason}; {_others(checkpoints, wanted)}")
    finally:
        checkpoints.close()
    for line in said:
        warn(f"warning: {line}")
    names, trained_on = tuple(meta["class_names"]), meta.get("data")
    return Trained(model, variables, preprocessing, names, meta["task"], config, wanted, mesh, trained_on)


def _others(checkpoints: Checkpoints, unreadable: int | None = None) -> str:
    """How to choose another step than the one that can't be read, the latest if no other is said."""
    steps = checkpoints.steps()
    others = ", ".join(str(step) for step in steps if step != (steps[-1] if unreadable is None else unreadable))
    return f"choose one with --step=N: {others or 'there is no other'}"


def load_weights(config: ConfigDict | Config, *, say: Callable[[str], None] = lambda line: None) -> Trained:
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


def from_pretrained(source: str, name: str | None = None, *, say: Callable[[str], None] = _to_stderr) -> Trained:
    """What jaxcnn.load_pretrained gives, with the names of its classes; for a run's folder, what load_trained gives."""
    origin = find_pretrained(source, name, say=say)
    if origin.run:
        return origin.run
    model, variables, preprocessing = load_origin(origin, say=say)
    config = changed(Config(), {"model.name": origin.name, "model.pretrained": source})
    mesh = make_mesh()
    names, task = class_names(origin, model.num_classes), origin.task or "multiclass"
    if model.num_classes == 1000 and not origin.named(1000):
        say(f"{source}: assumed: the classes of ImageNet, for their number is the same")
    variables = jax.device_put(variables, replicated(mesh))
    return Trained(model, variables, preprocessing, names, task, config, 0, mesh)


def evaluate(
    trained: Trained,
    split: str = "test",
    *,
    data_root: str | None = None,
    say: Callable[[str], None] = _to_stderr,
) -> dict[str, float]:
    """{"test_accuracy", "test_loss", "test_examples", perhaps "test_top5_accuracy"}, or so for another split.

    The data set is the one in the run's config, or the one at `data_root`. If the data there are not the training data
    and have no parts, all of them are measured; their classes may be some of the network's. `say` tells how they
    are taken, and which images were skipped.

    Raises:
      UserError: no such data or split; images or classes that are not the network's.
    """
    config, source = trained.config, None
    if data_root and config.data.name == "digits":
        raise UserError("--data_root: the data of this run, digits, come with scikit-learn and lie nowhere else")
    if data_root:
        config = changed(config, {"data.root": data_root})
    if data_root and config.data.name in foreign.SOURCES:
        source = _foreign(trained, config, split)
        if source is None:
            say(f"{data_root}: data of the training, cut into the same parts")
        else:
            say(f"{data_root}: other data than in training; {len(source):,} images are measured")
    if source is None:
        source = _in_training(trained, config, split, say)
    if source.image_shape != trained.preprocessing.image_shape:
        raise UserError(
            f"{config.data.name}: its images are {source.image_shape}, the network's {trained.preprocessing.image_shape}"
        )
    predict, reader = trained.predict(), reading(config)
    (logits,), labels = collect(predict, [trained.variables], batches_once(config, source, trained.mesh, reader)())
    if reader.skipped:
        say(reader.skipped_line())
    figures = measure(logits, labels, trained.task, evaluation_losses(config.loss))
    return {f"{split}_{name}": value for name, value in figures.items()}


def _in_training(trained: Trained, config: Config, split: str, say: Callable[[str], None]) -> data.Source:
    """The part of the data that had this name in training."""
    dataset = data.load(config.data, config.seed)
    source = getattr(dataset, split)
    if source is None:
        raise UserError(f"--split: there is no {split} set in this run; data.validation was 0")
    if dataset.class_names != trained.class_names:
        raise UserError(f"{config.data.name}: its classes differ from the network's: {', '.join(trained.class_names[:10])}")
    if trained.data:
        before, now = (
            {"class_names": dataset.class_names, "data": d, "preprocessing": {}} for d in (trained.data, fingerprint(dataset))
        )
        if different := data_differences(before, now):
            say(f"warning: the data are others than in training ({'; '.join(different)})")
    return source


def _foreign(trained: Trained, config: Config, split: str) -> data.Source | None:
    """The examples to measure in data other than the training data; None if the data are the training data."""
    if _was_moved(trained, config):
        return None
    how, root = trained.preprocessing, user_path(config.data.root)
    source = foreign.foreign(
        config.data.name, root, split, trained.class_names, how.image_shape[2], trained.task == "multilabel"
    )
    if isinstance(source, FileSource):
        source = dataclasses.replace(source, window=how.window)
        return data.Resized(source, how.image_shape, how.fit, how.crop_ratio, how.interpolation)
    return source


def _was_moved(trained: Trained, config: Config) -> bool:
    """Whether the data are the training data, at the same place or at another."""
    before, now = (os.path.realpath(user_path(c.data.root)) for c in (trained.config, config))
    if before == now:
        return True
    try:
        dataset = data.load(config.data, config.seed)
    except UserError:
        return False
    return fingerprint(dataset) == trained.data


def selected_variables(
    checkpoints: Checkpoints, config: Config, template: Variables, best_step: int | None
) -> tuple[int, Variables]:
    """The step and the parameters that count at the end of training: best or last, averaged or not.

    Where they can't be read, the latest ones that can are taken, and this is said on stderr.
    """
    steps, wanted = checkpoints.steps(), _selected_step(checkpoints, config, best_step)
    for step in [wanted, *(s for s in reversed(steps) if s != wanted)]:
        variables = _restored(checkpoints, config, template, step)
        if variables is not None:
            if step != wanted:
                print(f"warning: step {step} is tested, for the selected one, {wanted}, can't be read", file=sys.stderr)
            return step, variables
    raise UserError(f"none of the checkpoints {steps} can be read")


def _selected_step(checkpoints: Checkpoints, config: Config, best_step: int | None) -> int:
    return best_step if config.evaluate.select == "best" and best_step is not None else checkpoints.steps()[-1]


def _restored(checkpoints: Checkpoints, config: Config, template: Variables, step: int) -> Variables | None:
    """The parameters of a step, averaged where the run averages them; None, and said, if they can't be read."""
    return checkpoints.restore_variables(step, template, "ema" if config.ema.decay else "variables")

"""A trained network, as its checkpoints give it back: with its preprocessing and class names, and nothing else needed."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxcnn import data
from jaxcnn.config import Config, changed, from_saved, validate
from jaxcnn.data import Preprocessing, external
from jaxcnn.data.sources import FileSource
from jaxcnn.errors import UserError
from jaxcnn.evaluate import make_tally, measure
from jaxcnn.files import user_path
from jaxcnn.pretrained import class_names, find_pretrained, load_origin
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.registry import make_task
from jaxcnn.tasks.task import Setup, Task, Variables
from jaxcnn.train.checkpoints import Checkpoints
from jaxcnn.train.devices import make_mesh, replicated, replicated_shapes
from jaxcnn.train.experiment import batches_once, frozen_collections, prepare, reading
from jaxcnn.train.fingerprint import data_differences, fingerprint
from jaxcnn.train.state import averaged_part


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What prediction and evaluation take."""

    task: Task
    variables: Variables
    class_names: tuple[str, ...]
    config: Config
    step: int
    mesh: Mesh
    data: dict[str, Any] | None = None
    """which examples it was trained on, see fingerprint; None where that is not known"""

    @property
    def preprocessing(self) -> Preprocessing:
        """From uint8 images to the network's input."""
        return self.task.preprocessing


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
        setup, mesh = _setup(config, meta), make_mesh(config.devices)
        task = make_task(setup)
        template = replicated_shapes(task.init, mesh)
        wanted = _selected_step(checkpoints, config, meta["best_step"]) if step is None else step
        variables = _restored(checkpoints, config, template, wanted, task.frozen)
        if variables is None:
            reason = said[-1] if wanted in checkpoints.steps() else f"there is no checkpoint of step {wanted}"
            raise UserError(f"--workdir: {workdir}: {reason}; {_others(checkpoints, wanted)}")
    finally:
        checkpoints.close()
    for line in said:
        warn(f"warning: {line}")
    variables |= frozen_collections(task, setup, mesh)
    return Trained(task, variables, tuple(meta["class_names"]), config, wanted, mesh, meta.get("data"))


def _setup(config: Config, meta: dict[str, Any]) -> Setup:
    """What a checkpoint's task is made from. Those of earlier versions are all of classifiers."""
    fields = meta["fields"] if "fields" in meta else {"label": "labels" if meta["task"] == "multilabel" else "label"}
    names, preprocessing = tuple(meta["class_names"]), Preprocessing.from_json(meta["preprocessing"])
    return Setup(config, names, fields, preprocessing, data.make_augmentation(config.data.augment, config.data.repeats))


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
    task, mesh = experiment.task, experiment.mesh
    variables = jax.device_put(task.pretrained(experiment.setup, say, new_head=False), replicated(mesh))
    return Trained(task, variables, experiment.dataset.class_names, config, 0, mesh)


def from_pretrained(source: str, name: str | None = None, *, say: Callable[[str], None] = _to_stderr) -> Trained:
    """What jaxcnn.load_pretrained gives, with the names of its classes; for a run's folder, what load_trained gives."""
    origin = find_pretrained(source, name, say=say)
    if origin.run:
        return origin.run
    model, variables, preprocessing = load_origin(origin, say=say)
    config = changed(Config(), {"model.name": origin.name, "model.pretrained": source})
    mesh = make_mesh()
    names = class_names(origin, model.num_classes)
    if model.num_classes == 1000 and not origin.named(1000):
        say(f"{source}: assumed: the classes of ImageNet, for their number is the same")
    variables = jax.device_put(variables, replicated(mesh))
    task = Classification(preprocessing, model, names, origin.task or "multiclass")
    return Trained(task, variables, names, config, 0, mesh)


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
    if data_root and config.data.name in external.SOURCES:
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
    tally, reader = make_tally(trained.task, trained.mesh), reading(config)
    parts = [batches_once(config, each, trained.mesh, reader) for each in [source, *_needed(trained, config)]]
    ((_, figures),) = measure(trained.task, tally, [trained.variables], parts)
    if reader.skipped:
        say(reader.skipped_line())
    return {f"{split}_{name}": value for name, value in figures.items()}


def _needed(trained: Trained, config: Config) -> list[data.Source]:
    """The parts of the training data that the task needs beside the one that is measured."""
    if not trained.task.needs:
        return []
    parts = data.load(trained.config.data, config.seed).parts()
    return [parts[part] for part in trained.task.needs]


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
    several = None if "label" not in trained.task.fields else getattr(trained.task, "kind", "") == "multilabel"
    source = external.external_split(config.data.name, root, split, trained.class_names, how.image_shape[2], several)
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
    checkpoints: Checkpoints, config: Config, latest: Variables, best_step: int | None
) -> tuple[int, Variables]:
    """The step and the parameters that count at the end of training, whose `latest` variables these are: best or last,
    averaged or not.

    Where they can't be read, the latest ones that can are taken, and this is said on stderr.
    """
    steps, wanted = checkpoints.steps(), _selected_step(checkpoints, config, best_step)
    for step in [wanted, *(s for s in reversed(steps) if s != wanted)]:
        variables = _restored(checkpoints, config, latest, step, checkpoints.left_out)
        if variables is not None:
            if step != wanted:
                print(f"warning: step {step} is tested, for the selected one, {wanted}, can't be read", file=sys.stderr)
            return step, latest | variables
    raise UserError(f"none of the checkpoints {steps} can be read")


def _selected_step(checkpoints: Checkpoints, config: Config, best_step: int | None) -> int:
    return best_step if config.evaluate.select == "best" and best_step is not None else checkpoints.steps()[-1]


def _restored(
    checkpoints: Checkpoints, config: Config, template: Variables, step: int, frozen: tuple[str, ...]
) -> Variables | None:
    """The variables of a step but for the `frozen` collections, averaged where the run averages them.

    None, and said, if they can't be read.
    """
    template = {name: tree for name, tree in template.items() if name not in frozen}
    variables: Variables | None = {}
    if not config.ema.decay or template.keys() > averaged_part(template).keys():
        variables = checkpoints.restore_variables(step, template)
    if config.ema.decay and variables is not None:
        averaged = checkpoints.restore_variables(step, averaged_part(template), "ema")
        return None if averaged is None else variables | averaged
    return variables

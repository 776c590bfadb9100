"""Loading and evaluation of trained networks, with the preprocessing and class names stored in their checkpoints."""

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
from jaxcnn.models.registry import find
from jaxcnn.pretrained import class_names, find_pretrained, load_origin
from jaxcnn.tasks.classification import Classification
from jaxcnn.tasks.registry import make_task
from jaxcnn.tasks.segmentation import Segmentation
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
    """A trained network with everything that is needed for prediction and evaluation."""

    task: Task
    variables: Variables
    class_names: tuple[str, ...]
    config: Config
    step: int
    mesh: Mesh
    data: dict[str, Any] | None = None
    """fingerprint of the training data (see `fingerprint`); None if unknown"""

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing from uint8 images to the network's input."""
        return self.task.preprocessing


def load_trained(workdir: str | Path, *, step: int | None = None, warn: Callable[[str], None] = _to_stderr) -> Trained:
    """Loads the network from the run in `workdir`, at the step that the run selected (evaluate.select) or at `step`.

    With ema.decay > 0, the parameters are their moving average. `warn` is called with each warning.

    Raises:
      UserError: if there is no run, or if the checkpoint is missing or cannot be read.
    """
    workdir = user_path(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"--workdir: {workdir} contains no trained run; train one with experiments/train.py --workdir={workdir}"
        )
    warnings: list[str] = []
    checkpoints = Checkpoints(workdir / "checkpoints", warn=warnings.append)
    try:
        meta = checkpoints.latest_meta()
        if meta is None:
            raise UserError(f"--workdir: {workdir} contains no checkpoint that can be read")
        if warnings and step is None:  # the damaged checkpoint may have named another best step
            raise UserError(f"--workdir: {workdir}: {warnings[0]}, so the selected step is unknown; {_others(checkpoints)}")
        config = from_saved(meta["config"], f"--workdir: {workdir}")
        setup, mesh = _setup(config, meta), make_mesh(config.devices)
        task = make_task(setup)
        template = replicated_shapes(task.init, mesh)
        chosen = _selected_step(checkpoints, config, meta["best_step"]) if step is None else step
        variables = _restored(checkpoints, config, template, chosen, task.frozen)
        if variables is None:
            reason = warnings[-1] if chosen in checkpoints.steps() else f"there is no checkpoint of step {chosen}"
            raise UserError(f"--workdir: {workdir}: {reason}; {_others(checkpoints, chosen)}")
    finally:
        checkpoints.close()
    for line in warnings:
        warn(f"warning: {line}")
    variables |= frozen_collections(task, setup, mesh)
    return Trained(task, variables, tuple(meta["class_names"]), config, chosen, mesh, meta.get("data"))


def _setup(config: Config, meta: dict[str, Any]) -> Setup:
    """Returns the setup of a checkpoint's task. Checkpoints of early versions, without "fields", are of classifiers."""
    fields = meta["fields"] if "fields" in meta else {"label": "labels" if meta["task"] == "multilabel" else "label"}
    names, preprocessing = tuple(meta["class_names"]), Preprocessing.from_json(meta["preprocessing"])
    augment = data.make_augmentation(config.data.augment, config.data.repeats)
    colors = tuple((red, green, blue) for red, green, blue in meta.get("class_colors", ()))
    return Setup(config, names, fields, preprocessing, augment, class_colors=colors)


def _others(checkpoints: Checkpoints, unreadable: int | None = None) -> str:
    """Returns a hint with the steps other than `unreadable` (default: the latest), any of which can be chosen."""
    steps = checkpoints.steps()
    others = ", ".join(str(step) for step in steps if step != (steps[-1] if unreadable is None else unreadable))
    return f"choose another step with --step=N: {others}" if others else "there is no other checkpoint"


def load_weights(config: ConfigDict | Config, *, say: Callable[[str], None] = lambda line: None) -> Trained:
    """Loads the weights in model.pretrained, with the preprocessing and class names of the config and its data."""
    config = validate(config)
    if not config.model.pretrained:
        raise UserError("model.pretrained: no weights are given; set --config.model.pretrained=FILE")
    experiment = prepare(config)
    task, mesh = experiment.task, experiment.mesh
    variables = jax.device_put(task.pretrained(experiment.setup, say, new_head=False), replicated(mesh))
    return Trained(task, variables, experiment.dataset.class_names, config, 0, mesh)


def from_pretrained(source: str, name: str | None = None, *, say: Callable[[str], None] = _to_stderr) -> Trained:
    """Loads weights like jaxcnn.load_pretrained, with class names. For the folder of a run, returns load_trained(source)."""
    origin = find_pretrained(source, name, say=say)
    if origin.run:
        return origin.run
    model, variables, preprocessing = load_origin(origin, say=say)
    names = class_names(origin, model.num_classes, say)
    predicts, mesh = find(origin.name).task, make_mesh()
    kind = origin.task or ("segmentation" if predicts == "segmentation" else "multiclass")
    task: Task
    if kind == "segmentation":
        task = Segmentation(preprocessing, model, names)
    else:
        task = Classification(preprocessing, model, names, kind)
    config = changed(Config(), {"task.name": predicts, "model.name": origin.name, "model.pretrained": source})
    return Trained(task, jax.device_put(variables, replicated(mesh)), names, config, 0, mesh)


def evaluate(
    trained: Trained,
    split: str = "test",
    *,
    data_root: str | None = None,
    say: Callable[[str], None] = _to_stderr,
) -> dict[str, float]:
    """Evaluates a network and returns its metrics: {"test_accuracy", "test_loss", "test_examples", …} for the test split.

    The data set is that of the run's config, or the one at `data_root`. If this is not the training data and has no splits,
    all of its images are evaluated. Its classes may be a subset of the network's. `say` is called with lines that describe
    how the data are used and which images were skipped.

    Raises:
      UserError: if the data or the split do not exist, or if the images or classes do not fit the network.
    """
    config, source = trained.config, None
    if data_root and config.data.name == "digits":
        raise UserError("--data_root: not applicable to digits, the data of this run, which are part of scikit-learn")
    if data_root:
        config = changed(config, {"data.root": data_root})
    if data_root and config.data.name in external.SOURCES:
        source = _external(trained, config, split)
        if source is None:
            say(f"{data_root}: the training data, with the same splits")
        else:
            say(f"{data_root}: different data than in training; evaluating {len(source):,} images")
    if source is None:
        source = _in_training(trained, config, split, say)
    if source.image_shape != trained.preprocessing.image_shape:
        raise UserError(
            f"{config.data.name}: expected images of shape {trained.preprocessing.image_shape}, got {source.image_shape}"
        )
    tally, reader = make_tally(trained.task, trained.mesh), reading(config)
    sources = [batches_once(config, each, trained.mesh, reader) for each in [source, *_needed(trained, config)]]
    ((_, metrics),) = measure(trained.task, tally, [trained.variables], sources)
    if reader.skipped:
        say(reader.skipped_line())
    return {f"{split}_{name}": value for name, value in metrics.items()}


def _needed(trained: Trained, config: Config) -> list[data.Source]:
    """Returns the splits of the training data that the task needs in addition to the evaluated one."""
    if not trained.task.needs:
        return []
    parts = data.load(trained.config.data, config.seed).parts()
    return [parts[part] for part in trained.task.needs]


def _in_training(trained: Trained, config: Config, split: str, say: Callable[[str], None]) -> data.Source:
    """Returns the split that had this name in training."""
    dataset = data.load(config.data, config.seed)
    source = getattr(dataset, split)
    if source is None:
        raise UserError(f"--split: this run has no {split} set, because data.validation is 0")
    if dataset.class_names != trained.class_names:
        raise UserError(
            f"{config.data.name}: its classes differ from those of the network: {', '.join(trained.class_names[:10])}"
        )
    if trained.data:
        before, now = (
            {"class_names": dataset.class_names, "data": d, "preprocessing": {}} for d in (trained.data, fingerprint(dataset))
        )
        if different := data_differences(before, now):
            say(f"warning: the data differ from those in training ({'; '.join(different)})")
    return source


def _external(trained: Trained, config: Config, split: str) -> data.Source | None:
    """Returns the examples to evaluate in data other than the training data, or None if these are the training data."""
    if _is_training_data(trained, config):
        return None
    preprocessing, root = trained.preprocessing, user_path(config.data.root)
    several = None if "label" not in trained.task.fields else getattr(trained.task, "kind", "") == "multilabel"
    source = external.external_split(config.data.name, root, split, trained.class_names, preprocessing.image_shape[2], several)
    if isinstance(source, FileSource):
        source = dataclasses.replace(source, window=preprocessing.window)
        shape, fit = preprocessing.image_shape, preprocessing.fit
        return data.Resized(source, shape, fit, preprocessing.crop_ratio, preprocessing.interpolation)
    return source


def _is_training_data(trained: Trained, config: Config) -> bool:
    """Returns whether the data are the training data, at the same path or moved."""
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
    """Returns the selected step (evaluate.select) and its variables, at the end of a training with variables `latest`.

    With ema.decay > 0, the parameters are their moving average. If the selected checkpoint cannot be read, the latest one
    that can is used, with a warning on stderr.

    Raises:
      UserError: if no checkpoint can be read.
    """
    steps, selected = checkpoints.steps(), _selected_step(checkpoints, config, best_step)
    for step in [selected, *(s for s in reversed(steps) if s != selected)]:
        variables = _restored(checkpoints, config, latest, step, checkpoints.excluded)
        if variables is not None:
            if step != selected:
                print(f"warning: testing step {step}, because the selected step {selected} can't be read", file=sys.stderr)
            return step, latest | variables
    raise UserError(f"none of the checkpoints {steps} can be read")


def _selected_step(checkpoints: Checkpoints, config: Config, best_step: int | None) -> int:
    return best_step if config.evaluate.select == "best" and best_step is not None else checkpoints.steps()[-1]


def _restored(
    checkpoints: Checkpoints, config: Config, template: Variables, step: int, frozen: tuple[str, ...]
) -> Variables | None:
    """Returns the variables of a step without the `frozen` collections, with ema.decay > 0 the averaged ones.

    Returns None, with a warning, if they cannot be read.
    """
    template = {name: tree for name, tree in template.items() if name not in frozen}
    variables: Variables | None = {}
    if not config.ema.decay or template.keys() > averaged_part(template).keys():
        variables = checkpoints.restore_variables(step, template)
    if config.ema.decay and variables is not None:
        averaged = checkpoints.restore_variables(step, averaged_part(template), "ema")
        return None if averaged is None else variables | averaged
    return variables

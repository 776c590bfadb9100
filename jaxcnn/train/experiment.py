"""Preparation of a run from its config before the first step: data, task, optimizers, schedule and devices."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxcnn import data
from jaxcnn.config import Config
from jaxcnn.data.settings import DataSettings
from jaxcnn.data.sizes import height_and_width
from jaxcnn.durations import duration_in_steps, durations_in_steps
from jaxcnn.errors import UserError
from jaxcnn.layers import random_key
from jaxcnn.models.airbench import whiten
from jaxcnn.models.settings import ModelSettings
from jaxcnn.pretrained import find_start, for_channels
from jaxcnn.tasks.registry import check_task, make_task, selecting_quantity
from jaxcnn.tasks.task import Phase, Setup, Task, Variables
from jaxcnn.train.clock import Clock
from jaxcnn.train.devices import make_mesh, on_cpu, replicated, replicated_shapes
from jaxcnn.train.optimizers import frozen_paths, make_groups, make_optimizer
from jaxcnn.train.programs import AheadOfTime
from jaxcnn.train.schedules import make_schedule
from jaxcnn.train.selection import Selection
from jaxcnn.train.settings import ScheduleSettings
from jaxcnn.train.state import TrainState
from jaxcnn.train.step import Step, Update, init_state, make_train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The data, task, optimizers and devices of a config. No parameters are initialized and nothing is compiled yet."""

    config: Config
    dataset: data.Dataset
    setup: Setup
    task: Task
    update: Update
    mesh: Mesh
    total_steps: int
    reading: data.Reading
    sizes: data.Sizes

    @property
    def preprocessing(self) -> data.Preprocessing:
        """The preprocessing of evaluation. Training images may have other sizes."""
        return self.task.preprocessing

    @functools.cached_property
    def every(self) -> dict[str, int]:
        """The intervals in steps between log rows ("log"), evaluations ("evaluate") and checkpoints ("checkpoint")."""
        sizes = {"batch_size": self.config.batch_size, "examples_per_epoch": len(self.dataset.train)}
        config = self.config
        durations = {"log": config.log.every, "evaluate": config.evaluate.every, "checkpoint": config.checkpoint.every}
        return {name: max(1, duration_in_steps(f"{name}.every", text, **sizes)) for name, text in durations.items()}

    @functools.cached_property
    def selection(self) -> Selection:
        """The criterion by which evaluations are compared."""
        early_stop = self.config.early_stop
        quantity = selecting_quantity(self.task, self.config.evaluate.metric)
        return Selection(quantity, early_stop.patience, early_stop.min_delta)

    def order(self) -> data.Order | data.BalancedOrder:
        """Returns the order of the examples in training."""
        if self.config.data.balanced:
            return data.BalancedOrder(self.dataset.train.column("label"), self.config.seed)
        return data.Order(len(self.dataset.train), self.config.seed, self.config.data.repeats)

    def reader(self, source: data.Source) -> data.Reader:
        """Returns a reader of batches of `source`, which is kept on the device or streamed, depending on the config."""
        return data.make_reader(source, self.mesh, self.reading)

    @functools.cached_property
    def validation(self) -> list[Callable[[], Iterator[data.Batch]]]:
        """Functions that iterate once over the batches of the validation set, and of the other splits that the task needs."""
        return self.parts_of(self.dataset.validation, self.reading)

    def parts_of(self, source: data.Source | None, reading: data.Reading) -> list[Callable[[], Iterator[data.Batch]]]:
        """Returns functions that iterate once over the batches of `source`, and of the other splits that the task needs."""
        assert source is not None, "the data set does not have this split"
        sources = [source, *(self.dataset.parts()[part] for part in self.task.needs)]
        return [batches_once(self.config, source, self.mesh, reading) for source in sources]

    def initial_state(self, say: Callable[[str], None] = lambda line: None, clock: Clock | None = None) -> TrainState:
        """Returns the state at step 0 on all devices, with random parameters or those of model.pretrained.

        `say` is called with lines about the loaded parameters, and `clock` counts the compilation time.
        """
        config, everywhere, clock = self.config, replicated(self.mesh), clock or Clock()

        def fresh(images: jax.Array | None, seed: jax.Array) -> TrainState:
            variables = self.task.init(random_key(seed))
            if images is not None:
                stem = variables["params"]["stem_conv"]
                stem["kernel"] = whiten(self.preprocessing(images), stem["kernel"].shape[:2])
            return self._start(variables, seed)

        train, skip = self.dataset.train, self.reading.skip
        read = data.read_or_none if skip else data.read_example
        examples = (example for i in range(len(train)) if (example := read(train, i)) is not None)
        first = [example["image"] for example in itertools.islice(examples, config.model.whiten)]
        images, seed = jax.device_put((np.stack(first) if first else None, np.uint32(config.seed)), everywhere)
        options: dict[str, Any] = {}
        make: Callable[..., TrainState] = fresh
        argument: Any = images
        if config.model.pretrained:
            make, argument = self._start, jax.device_put(self.task.pretrained(self.setup, say), everywhere)
        elif on_cpu(self.mesh):
            # Runs only once. LLVM's optimization level 1 gives the same numbers and compiles in a third of the time.
            options = {"xla_backend_optimization_level": 1}
        make = jax.jit(make, out_shardings=everywhere, compiler_options=options)
        return jax.block_until_ready(AheadOfTime(make, clock)(argument, seed))

    def _start(self, variables: Variables, seed: int | jax.Array) -> TrainState:
        return init_state(variables, seed, self.update)

    def state_template(self) -> TrainState:
        """Returns the shapes and shardings of the state."""
        return replicated_shapes(lambda key: self._start(self.task.init(key), 0), self.mesh)

    def train_step(self, size: tuple[int, int] | None = None) -> Step:
        """Returns the pure function of one step, for images of (height, width) `size` if given (see data.sizes)."""
        return make_train_step(self.task.at_size(size) if size else self.task, self.update, unroll=on_cpu(self.mesh))

    def meta(self) -> dict[str, Any]:
        """Returns the metadata of a checkpoint with which `load_trained` can use it on its own."""
        name, module = self.config.model.name, next(iter(self.task.networks().values()))[0]
        arguments = self.setup.model_arguments | {"num_classes": getattr(module, "num_classes", 0)}
        return {
            "model": {"name": name, "arguments": arguments, "dtype": self.config.model.dtype},
            "task": {"name": self.config.task.name, "arguments": dict(self.config.task.arguments)},
            "fields": dict(self.setup.fields),
            "class_names": list(self.dataset.class_names),
            "class_colors": [list(color) for color in self.dataset.class_colors],
            "preprocessing": self.preprocessing.to_json(),
        }


def prepare(config: Config) -> Experiment:
    """Loads the data and creates the task, the optimizers and the device mesh of a validated config.

    Raises:
      UserError: if the settings do not fit the data, the model, the devices or each other.
    """
    check_task(config)
    mesh = make_mesh(config.devices)
    if config.batch_size % (mesh.size * config.optimizer.accumulate):
        raise UserError(
            f"batch_size: {config.batch_size} can't be divided evenly by {mesh.size} devices × {config.optimizer.accumulate} "
            f"parts (optimizer.accumulate); use a multiple of {mesh.size * config.optimizer.accumulate}"
        )
    dataset = data.load(config.data, config.seed)
    if config.early_stop.patience and not dataset.validation:
        raise UserError("early_stop.patience: early stopping needs a validation set; set data.validation > 0")
    if config.data.balanced and dataset.train.column("label").ndim == 2:
        raise UserError("data.balanced: requires one label per image, but these images have several")
    augment = data.make_augmentation(config.data.augment, config.data.repeats)
    if augment.mixes and config.batch_size < (least := augment.mixed_images * config.data.repeats):
        raise UserError(
            f"batch_size: data.augment mixes {augment.mixed_images} different images, each of which is in the batch "
            f"data.repeats={config.data.repeats} times; expected at least {least}, got {config.batch_size}"
        )
    preprocessing = data.make_preprocessing(_with_statistics(config, dataset.train), dataset.train)
    sizes = _sizes(config, len(dataset.train), preprocessing.size)
    if isinstance(dataset.train, data.Resized):
        dataset = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, sizes=sizes))
    if config.data.on_error == "skip":
        _check_some_readable(dataset)
    kinds = {name: field.kind for name, field in dataset.train.fields.items()}
    setup = Setup(config, dataset.class_names, kinds, preprocessing, augment, dataset.train, dataset.class_colors)
    task = make_task(setup)
    augment.check_fields(task.fields)
    _check_phases(task, config)
    params = jax.eval_shape(task.init, jax.random.key(0))["params"]
    _check_sizes(sizes, task, params)
    _check_whitening(config.model, params, len(dataset.train))
    total_steps = duration_in_steps("total", config.total, batch_size=config.batch_size, examples_per_epoch=len(dataset.train))
    if not total_steps:
        raise UserError(f"total: expected at least one step, got {config.total}")
    update = _make_update(config, task, params, total_steps, len(dataset.train))
    experiment = Experiment(config, dataset, setup, task, update, mesh, total_steps, reading(config), sizes)
    augment.check(preprocessing.input_shape)
    selection = experiment.selection
    if config.early_stop.patience and selection.quantity is None:
        raise UserError(
            f"early_stop.patience: the task {config.task.name} has no quantity by which evaluations can be compared"
        )
    return experiment


def _make_update(config: Config, task: Task, params: Any, total_steps: int, examples_per_epoch: int) -> Update:
    """Creates the optimizer of each phase, the schedule, and the further settings of parameter updates."""
    sizes = {"batch_size": config.batch_size, "examples_per_epoch": examples_per_epoch, "total_steps": total_steps}

    def schedule_of(phase: Phase, settings: ScheduleSettings, peak: float) -> optax.Schedule:
        schedule = make_schedule(settings, peak=peak, **sizes)
        # an optimizer counts only the updates of its phase
        return schedule if phase.every == 1 else lambda count: schedule(phase.every * count)

    def optimizer(phase: Phase) -> optax.GradientTransformation:
        schedules = functools.partial(schedule_of, phase)
        groups = make_groups(config.optimizer, config.schedule, schedules)
        return make_optimizer(config.optimizer, schedules(config.schedule, config.optimizer.learning_rate), params, groups)

    schedule = schedule_of(Phase(), config.schedule, config.optimizer.learning_rate)

    optimizers = {phase: optimizer(phase) for phase in task.phases}
    frozen = frozen_paths(config.optimizer, params)
    return Update(optimizers, schedule, config.ema.decay, config.optimizer.accumulate, frozen)


def _check_phases(task: Task, config: Config) -> None:
    """Checks that the settings `optimizer.*` support the task."""
    if config.optimizer.accumulate > 1 and not task.splits:
        raise UserError(
            f"optimizer.accumulate: the loss of {config.task.name} compares the examples of a batch, so a batch can't be "
            "split into parts; leave it at 1"
        )


def _check_some_readable(dataset: data.Dataset) -> None:
    """Checks before training that every split has at least one readable image."""
    for part, source in dataset.parts().items():
        if all(data.read_or_none(source, index) is None for index in range(len(source))):
            raise UserError(f"the {part} set: {data.none_readable_error(source)}")


def _with_statistics(config: Config, train: data.Source) -> DataSettings:
    """Returns the settings `data.*`. If mean and std are not set, they are those with which model.pretrained was trained."""
    settings = config.data
    if config.model.pretrained and not settings.mean and not settings.std:
        assert train.image_shape is not None, "jaxcnn.data.load resizes images to one size"
        found = find_start(config.model.pretrained, config.model.name, config.model.arguments)
        if not found.file.exists():  # needed to resume as well: it may contain mean and std
            raise UserError(f"model.pretrained: {found.file}: no such file")
        origin = for_channels(found.preprocessing, train.image_shape[2])
        settings = dataclasses.replace(settings, mean=origin.mean, std=origin.std)
    return settings


def _sizes(config: Config, examples_per_epoch: int, evaluated: tuple[int, int]) -> data.Sizes:
    sizes, durations = config.data.sizes, config.data.size_boundaries
    height, width = evaluated
    if height != width and (squares := [size for size in sizes if isinstance(size, int)]):
        raise UserError(
            f"data.sizes: {squares[0]} is the side of a square, but images are evaluated at {height}×{width}; "
            f"write pairs (height, width), such as ({max(1, height // 2)}, {max(1, width // 2)})"
        )
    if durations and len(durations) != len(sizes) - 1:
        raise UserError(
            f"data.size_boundaries: expected {len(sizes) - 1} for {len(sizes)} sizes, or none; got {len(durations)}"
        )
    boundaries = durations_in_steps(
        "data.size_boundaries", durations, batch_size=config.batch_size, examples_per_epoch=examples_per_epoch
    )
    return data.Sizes(tuple(map(height_and_width, sizes)), tuple(boundaries), config.seed, config.batch_size)


def _check_sizes(sizes: data.Sizes, task: Task, params: Any) -> None:
    """Checks that the task's networks have the same parameters for images of all sizes."""
    for size in sizes.sizes:
        of_size = jax.eval_shape(task.at_size(size).init, jax.random.key(0))["params"]
        if jax.tree.map(jnp.shape, of_size) != jax.tree.map(jnp.shape, params):
            height, width = task.preprocessing.size
            raise UserError(
                f"data.sizes: the model has other parameters at {size[0]}×{size[1]} than at {height}×{width}, so it can be "
                "trained at one size only"
            )


def _check_whitening(config: ModelSettings, params: Any, examples: int) -> None:
    """Checks that the model has a whitening layer, and that there are enough training images for model.whiten."""
    if not config.whiten:
        return
    kernel = params.get("stem_conv", {}).get("kernel")
    if kernel is None or kernel.shape[-1] != 2 * math.prod(kernel.shape[:-1]):
        raise UserError(f"model.whiten: the first layer of {config.name} is not a whitening layer; airbench94 has one")
    if config.whiten > examples:
        raise UserError(f"model.whiten: {config.whiten:,} images are needed, but the training set has {examples:,}")


def reading(config: Config) -> data.Reading:
    """Returns how examples are read, from the settings `data.*`."""
    settings = config.data
    threads = settings.threads or (1 if settings.workers else data.cores())
    return data.Reading(settings.resident, threads, settings.workers, settings.on_error == "skip")


def frozen_collections(task: Task, setup: Setup, mesh: Mesh) -> Variables:
    """Creates the collections that are not stored in checkpoints, as at the start of a run."""
    if not task.frozen:
        return {}
    if setup.config.model.pretrained:
        variables = jax.device_put(task.pretrained(setup, lambda line: None), replicated(mesh))
    else:
        seed = jax.device_put(np.uint32(setup.config.seed), replicated(mesh))
        variables = jax.jit(lambda seed: task.init(random_key(seed)), out_shardings=replicated(mesh))(seed)
    return {name: variables[name] for name in task.frozen}


def batches_once(config: Config, source: data.Source, mesh: Mesh, how: data.Reading) -> Callable[[], Iterator[data.Batch]]:
    """Returns a function that iterates over `source` once, in batches of evaluate.batch_size rounded up to the devices."""
    source = data.as_evaluated(source)
    how = dataclasses.replace(how, workers=0)  # processes would take seconds to start for every evaluation
    batch_size = -(-min(config.evaluate.batch_size, len(source)) // mesh.size) * mesh.size
    return functools.partial(data.batches_once, data.make_reader(source, mesh, how), len(source), batch_size)

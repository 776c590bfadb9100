"""Everything that a config decides before the first step: data, model, loss, optimiser, schedule, devices."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from jaxcnn import data
from jaxcnn.config import duration_in_steps, durations_in_steps
from jaxcnn.data.sizes import height_and_width
from jaxcnn.errors import UserError
from jaxcnn.evaluate import make_predict
from jaxcnn.layers import random_key
from jaxcnn.models import create_model
from jaxcnn.models.airbench import whiten
from jaxcnn.pretrained import (
    class_difference,
    find_pretrained,
    fit,
    for_channels,
    head_order,
    known_differences,
    other_preprocessing,
    stated_names,
    stem_channels,
)
from jaxcnn.tasks.classification_metrics import LabelKind
from jaxcnn.tasks.losses import make_loss, num_outputs, task_of
from jaxcnn.train.clock import AheadOfTime, Clock
from jaxcnn.train.optimizers import frozen_paths, make_groups, make_optimizer
from jaxcnn.train.schedules import make_schedule
from jaxcnn.train.state import TrainState, Variables, init_state, init_variables
from jaxcnn.train.step import Step, make_train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, resolved. Only shapes so far: no parameter is made and nothing is compiled."""

    config: ConfigDict
    dataset: data.Dataset
    preprocessing: data.Preprocessing
    task: LabelKind
    model: nn.Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    mesh: Mesh
    total_steps: int
    reading: data.Reading
    sizes: data.Sizes
    frozen: frozenset[str] = frozenset()

    def steps(self, name: str) -> int:
        """The duration of a setting, in steps, at least 1."""
        room, _, leaf = name.rpartition(".")
        text = (self.config[room] if room else self.config)[leaf]
        size = len(self.dataset.train)
        return max(1, duration_in_steps(name, text, batch_size=self.config.batch_size, examples_per_epoch=size))

    def order(self) -> data.Order | data.BalancedOrder:
        """Which example stands where in training."""
        if self.config.data.balanced:
            return data.BalancedOrder(self.dataset.train.column("label"), self.config.seed)
        return data.Order(len(self.dataset.train), self.config.seed, self.config.data.repeats)

    def reader(self, source: data.Source) -> data.Reader:
        """Batches of `source`, resident or streamed as the config asks."""
        return data.make_reader(source, self.mesh, self.reading)

    def batches_once(self, source: data.Source) -> Callable[[], Iterator[data.Batch]]:
        """Gives all of `source` once, each time that it is called."""
        return batches_once(self.config, source, self.mesh, self.reading)

    def initial_state(self, say: Callable[[str], None] = lambda line: None, clock: Clock | None = None) -> TrainState:
        """Step 0, replicated over the devices: fresh parameters, or those of model.pretrained, of which `say` tells.

        `clock` is told what was compilation.
        """
        config, everywhere, clock = self.config, replicated(self.mesh), clock or Clock()

        start = functools.partial(init_state, optimizer=self.optimizer, ema=config.ema.decay > 0)

        def fresh(images: jax.Array | None, seed: jax.Array) -> TrainState:
            variables = init_variables(self.model, self.preprocessing.input_shape, random_key(seed))
            if images is not None:
                stem = variables["params"]["stem_conv"]
                stem["kernel"] = whiten(self.preprocessing(images), stem["kernel"].shape[:2])
            return start(variables, seed)

        train, skip = self.dataset.train, self.reading.skip
        images_of = (image for i in range(len(train)) if (image := train.readable(i) if skip else train[i]) is not None)
        first = list(itertools.islice(images_of, config.model.whiten))
        images, seed = jax.device_put((np.stack(first) if first else None, np.uint32(config.seed)), everywhere)
        make, argument, options = fresh, images, {}
        if config.model.pretrained:
            make, argument = start, jax.device_put(self.pretrained_variables(say), everywhere)
        elif self.on_cpu:
            # Run once: LLVM's first level makes the same numbers and is compiled in a third of the time.
            options = {"xla_backend_optimization_level": 1}
        make = jax.jit(make, out_shardings=everywhere, compiler_options=options)
        return jax.block_until_ready(AheadOfTime(make, clock)(argument, seed))

    def state_template(self) -> TrainState:
        """The shapes and shardings of the state, to restore a checkpoint into."""

        def start(key: jax.Array) -> TrainState:
            variables = init_variables(self.model, self.preprocessing.input_shape, key)
            return init_state(variables, 0, self.optimizer, ema=self.config.ema.decay > 0)

        return replicated_shapes(start, self.mesh)

    def pretrained_variables(self, say: Callable[[str], None] = lambda line: None, *, new_head: bool = True) -> Variables:
        """The weights in model.pretrained, for this model: with a fresh head where the data have other classes."""
        config, arguments, channels = self.config.model, _arguments(self.config.model), self.preprocessing.input_shape[2]
        origin = find_pretrained(config.pretrained, config.name, say=say)
        variables, has = origin.variables(**arguments)
        outputs, takes = _outputs(self.task, self.dataset), stem_channels(origin, variables)
        if has != outputs and not new_head:
            raise UserError(f"model.pretrained: {config.pretrained} has {has} classes, but the data set has {outputs}")
        names = stated_names(self.config.data.name, self.dataset.class_names)
        kept = head_order(origin, has, outputs, names) is not None
        if not kept and not new_head:
            difference = class_difference(origin.named(has), names)
            raise UserError(f"model.pretrained: {config.pretrained} has other classes than the data set: {difference}")
        if takes != channels and not config.adapt_stem:
            change_data = f"--config.data.channels={takes} changes the images, " if {takes, channels} == {1, 3} else ""
            raise UserError(
                f"model.pretrained: {config.pretrained} is for images of {takes} channels, but these have {channels}; "
                f"{change_data}--config.model.adapt_stem=True adapts its first convolution"
            )
        variables, changes = fit(origin, variables, has, outputs, self.preprocessing.input_shape, names, **arguments)
        changes += known_differences(origin, self.task, arguments, has, names) if kept else []
        measured = not (self.config.data.mean or self.config.data.std)
        if measured:
            mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (self.preprocessing.mean, self.preprocessing.std))
            changes.append(f"pixels as it takes them, mean {mean}, std {std}")
        changes += other_preprocessing(origin, self.preprocessing)
        say(f"starts from {origin}" + "".join(f"; {change}" for change in changes))
        if measured and origin.assumed:
            say(f"assumed: {origin.assumed}; --config.data.mean and --config.data.std change it")
        return {"batch_stats": {}, **variables}

    def predict(self) -> jax.stages.Wrapped:
        """The jitted forward pass of evaluation, over the views of evaluate.views."""
        return make_predict(self.model, self.preprocessing, self.mesh, data.make_views(self.config.evaluate.views))

    def train_step(self, size: tuple[int, int] | None = None) -> Step:
        """The pure function of one step, with images of this (height, width) where it is given (see data.sizes)."""
        config, preprocessing = self.config, self.preprocessing
        if size:
            preprocessing = dataclasses.replace(preprocessing, size=size)
        return make_train_step(
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            loss=make_loss(
                config.loss, self.task, len(self.dataset.class_names), self.dataset.train.labels, self.dataset.class_names
            ),
            task=self.task,
            preprocessing=preprocessing,
            augment=data.make_augmentation(config.data.augment, config.data.repeats),
            num_outputs=_outputs(self.task, self.dataset),
            ema_decay=config.ema.decay,
            accumulate=config.optimizer.accumulate,
            auxiliary_weight=config.loss.auxiliary_weight,
            frozen=self.frozen,
            unroll=self.on_cpu,
        )

    @property
    def on_cpu(self) -> bool:
        """Whether this runs on the CPU, where loops around gradients are slow and devices have to be waited for."""
        return self.mesh.devices.flat[0].platform == "cpu"

    def meta(self) -> dict[str, Any]:
        """What a checkpoint carries so that it can be used alone; `load_trained` reads it."""
        return {
            "model": {
                "name": self.config.model.name,
                "arguments": _arguments(self.config.model) | {"num_classes": _outputs(self.task, self.dataset)},
                "dtype": self.config.model.dtype,
            },
            "task": self.task,
            "class_names": list(self.dataset.class_names),
            "preprocessing": self.preprocessing.to_json(),
        }


def prepare(config: ConfigDict) -> Experiment:
    """Resolves a validated config.

    Raises:
      UserError: whatever in the settings does not fit the data, the model, the devices or each other.
    """
    mesh = make_mesh(config.devices)
    if config.batch_size % (mesh.size * config.optimizer.accumulate):
        raise UserError(
            f"batch_size: {config.batch_size} can't be shared evenly by {mesh.size} devices in "
            f"{config.optimizer.accumulate} parts (optimizer.accumulate); "
            f"take a multiple of {mesh.size * config.optimizer.accumulate}"
        )
    dataset = data.load(config.data, config.seed)
    if config.early_stop.patience and not dataset.validation:
        raise UserError("early_stop.patience: there is no validation set to judge by; data.validation cuts one off")
    if config.data.balanced and dataset.train.column("label").ndim == 2:
        raise UserError("data.balanced: takes one label an image, but these have several")
    if config.data.balanced and config.data.repeats > 1:
        raise UserError("data.repeats: not together with data.balanced")
    augment = data.make_augmentation(config.data.augment, config.data.repeats)
    if augment.mixes and config.batch_size < 2 * config.data.repeats:
        raise UserError(
            f"data.repeats: a batch of {config.batch_size} with {config.data.repeats} of each image has no other image to mix "
            f"it with; set batch_size to {2 * config.data.repeats} or more"
        )
    preprocessing = data.make_preprocessing(_with_statistics(config, dataset.train), dataset.train)
    sizes = _sizes(config, len(dataset.train), preprocessing.size)
    if isinstance(dataset.train, data.Resized):
        dataset = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, sizes=sizes))
    if config.data.on_error == "skip":
        _check_some_readable(dataset)
    task = task_of(dataset.train, len(dataset.class_names), config.loss.name)
    model = create_model(
        config.model.name,
        **_arguments(config.model),
        num_classes=_outputs(task, dataset),
        dtype=config.model.dtype,
    )
    init = functools.partial(init_variables, model, preprocessing.input_shape)
    params = jax.eval_shape(init, jax.random.key(0))["params"]
    _check_sizes(sizes, model, preprocessing, params)
    _check_whitening(config.model, params, len(dataset.train))
    durations = {"batch_size": config.batch_size, "examples_per_epoch": len(dataset.train)}
    total_steps = duration_in_steps("total", config.total, **durations)
    if not total_steps:
        raise UserError(f"total: {config.total} is no training")
    schedules = functools.partial(make_schedule, total_steps=total_steps, examples_per_epoch=len(dataset.train))
    schedule = schedules(config)
    optimizer = make_optimizer(config.optimizer, schedule, params, make_groups(config, schedules))
    experiment = Experiment(
        config,
        dataset,
        preprocessing,
        task,
        model,
        optimizer,
        schedule,
        mesh,
        total_steps,
        reading(config),
        sizes,
        frozen_paths(config.optimizer, params),
    )
    augment.check(preprocessing.input_shape)
    experiment.train_step()  # its loss and augmentation, and the views, are checked as they are made
    experiment.predict()
    return experiment


def _check_some_readable(dataset: data.Dataset) -> None:
    """That there will be something to evaluate: known before the training, not after it."""
    for part, source in dataset.parts().items():
        if all(source.readable(index) is None for index in range(len(source))):
            raise UserError(f"the {part} set: {source.none_readable()}")


def _with_statistics(config: ConfigDict, train: data.Source) -> ConfigDict:
    """The settings `data.*`; mean and std, where they are not given, are those that model.pretrained was trained with."""
    settings = config.data
    if config.model.pretrained and not settings.mean and not settings.std:
        assert train.image_shape is not None, "sizes differ: jaxcnn.data.load brings them to one"
        found = find_pretrained(config.model.pretrained, config.model.name)
        if not found.file.exists():  # it may state them; a resumed run has to find the same
            raise UserError(f"model.pretrained: {found.file}: no such file")
        origin = for_channels(found.preprocessing, train.image_shape[2])
        settings = settings.copy_and_resolve_references()
        with settings.unlocked():
            settings.mean, settings.std = origin.mean, origin.std
    return settings


def _sizes(config: ConfigDict, examples_per_epoch: int, evaluated: tuple[int, int]) -> data.Sizes:
    sizes, durations = config.data.sizes, config.data.size_boundaries
    if any(isinstance(size, int) and size < 1 for size in sizes):
        raise UserError(f"data.sizes: {sizes} should be pixels, 1 or more")
    height, width = evaluated
    if height != width and (squares := [size for size in sizes if isinstance(size, int)]):
        raise UserError(
            f"data.sizes: {squares[0]} is the side of a square, but images are evaluated at {height}×{width}; "
            f"write pairs (height, width), such as ({max(1, height // 2)}, {max(1, width // 2)})"
        )
    if durations and len(durations) != len(sizes) - 1:
        raise UserError(f"data.size_boundaries: {len(durations)} for {len(sizes)} sizes; one fewer than sizes, or none")
    if sizes and config.data.resize == "pad":
        raise UserError("data.sizes: images are resized, not padded, to them; not together with data.resize=pad")
    boundaries = durations_in_steps(
        "data.size_boundaries", durations, batch_size=config.batch_size, examples_per_epoch=examples_per_epoch
    )
    return data.Sizes(tuple(map(height_and_width, sizes)), tuple(boundaries), config.seed, config.batch_size)


def _check_sizes(sizes: data.Sizes, model: nn.Module, preprocessing: data.Preprocessing, params: Any) -> None:
    """That the model takes images of all sizes with the same parameters."""
    for size in sizes.sizes:
        init = functools.partial(init_variables, model, (*size, preprocessing.input_shape[2]))
        if jax.tree.map(jnp.shape, jax.eval_shape(init, jax.random.key(0))["params"]) != jax.tree.map(jnp.shape, params):
            height, width = preprocessing.size
            raise UserError(
                f"data.sizes: the model has other parameters at {size[0]}×{size[1]} than at {height}×{width}; it takes one size"
            )


def _check_whitening(config: ConfigDict, params: Any, examples: int) -> None:
    """That model.whiten has a first layer to make, and images to make it from."""
    if not config.whiten:
        return
    kernel = params.get("stem_conv", {}).get("kernel")
    if kernel is None or kernel.shape[-1] != 2 * math.prod(kernel.shape[:-1]):
        raise UserError(f"model.whiten: the first layer of {config.name} is no whitening; that of airbench94 is")
    if config.pretrained:
        raise UserError("model.whiten: not together with model.pretrained, which has a first layer of its own")
    if config.whiten > examples:
        raise UserError(f"model.whiten: {config.whiten:,} images, but there are {examples:,} to train on")


def reading(config: ConfigDict) -> data.Reading:
    """How the settings `data.*` ask for examples to be read."""
    settings = config.data
    threads = settings.threads or (1 if settings.workers else data.cores())
    return data.Reading(settings.resident, threads, settings.workers, settings.on_error == "skip")


def batches_once(config: ConfigDict, source: data.Source, mesh: Mesh, how: data.Reading) -> Callable[[], Iterator[data.Batch]]:
    """Gives all of `source` once, each time that it is called; a batch is evaluate.batch_size, made to fit the devices."""
    source = data.as_evaluated(source)
    how = dataclasses.replace(how, workers=0)  # processes take seconds to start, each time
    batch_size = -(-min(config.evaluate.batch_size, len(source)) // mesh.size) * mesh.size
    return functools.partial(data.batches_once, data.make_reader(source, mesh, how), len(source), batch_size)


def make_mesh(devices: int = 0) -> Mesh:
    """The first `devices` devices that JAX finds (0: all), as one axis "data"."""
    found = jax.devices()
    if devices > len(found):
        raise UserError(f"devices: {devices} were asked for, but JAX finds {len(found)} ({found[0].platform})")
    # Auto axes: shardings are propagated by the compiler, not part of an array's type
    return jax.make_mesh(
        (devices or len(found),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=found[: devices or None]
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device of `mesh`, whole."""
    return NamedSharding(mesh, P())


def replicated_shapes(make: Callable[[jax.Array], Any], mesh: Mesh) -> Any:
    """The shapes of what `make(key)` returns, each with the sharding "on every device"."""
    shapes = jax.eval_shape(make, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes)


def _arguments(config: ConfigDict) -> dict[str, Any]:
    arguments = config.arguments.to_dict()
    for name, setting in (("num_classes", "the data set decides it"), ("dtype", "it is the setting model.dtype")):
        if name in arguments:
            raise UserError(f"model.arguments.{name}: not set here; {setting}")
    return arguments


def _outputs(task: LabelKind, dataset: data.Dataset) -> int:
    return num_outputs(task, len(dataset.class_names))

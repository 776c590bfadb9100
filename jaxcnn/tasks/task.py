"""The interface of a task: what a batch's targets are, what is minimized, and how results are measured and shown.

The training loop, evaluation, prediction and the report page know this interface and no specific task. A task is a frozen
dataclass of pure functions: it holds networks, preprocessing and settings, but no state. Subclasses override what differs.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.config import Config
from jaxcnn.data import Augmentation, Batch, Preprocessing, Source
from jaxcnn.data.photo import Photo
from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.report import Quantity

Variables = dict[str, Any]
"""{"params", "batch_stats", and the collections that a task adds, such as "target" or "queue"}: nested dicts of arrays. Several
networks are names within "params" and "batch_stats"."""
Inputs = Any
"""A pytree of arrays whose axis 0 is the batch: what an objective takes."""
Outputs = Any
"""A pytree of arrays whose axis 0 is the batch: what prediction shows."""
Tally = Any
"""A pytree of arrays whose axis 0 is the examples: what evaluation keeps of each, so that N examples are exactly N."""
Metrics = dict[str, jax.Array]
"""Scalars, float32."""


class Phase(NamedTuple):
    """One gradient and one update within a step."""

    name: str = ""
    trains: tuple[str, ...] = ()
    """The names in "params" that it trains; () for all of them."""
    every: int = 1
    """It is skipped but in every n-th step; its metrics are NaN in the others."""


class Keys(NamedTuple):
    """The randomness of a step: functions of (seed, step), and of the seed alone for `run`."""

    augment: jax.Array
    dropout: jax.Array
    mix: jax.Array
    run: jax.Array


class Setup(NamedTuple):
    """What a task is made from: by a run from its settings and data, by evaluation and prediction from a checkpoint."""

    config: Config
    class_names: tuple[str, ...]
    fields: Mapping[str, str]
    """Name -> kind of what the data hold beside images: {"label": "labels"}, see data.Field."""
    preprocessing: Preprocessing
    augment: Augmentation
    train: Source | None = None
    """The training set; None for a network that is only evaluated."""

    @property
    def model_arguments(self) -> dict[str, Any]:
        """The setting model.arguments. Raises UserError where it has what another setting decides."""
        arguments = dict(self.config.model.arguments)
        for name, setting in (("num_classes", "the data set decides it"), ("dtype", "it is the setting model.dtype")):
            if name in arguments:
                raise UserError(f"model.arguments.{name}: not set here; {setting}")
        return arguments

    def network(self, num_classes: int) -> nn.Module:
        """The network of the settings `model.*`; num_classes = 0 returns pooled features."""
        model = self.config.model
        return create_model(model.name, **self.model_arguments, num_classes=num_classes, dtype=model.dtype)


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What is learned. Fields after `dataclasses.KW_ONLY` are the settings task.arguments; `make` fills in the others."""

    preprocessing: Preprocessing

    phases: ClassVar[tuple[Phase, ...]] = (Phase(),)
    quantities: ClassVar[tuple[Quantity, ...]]
    """What `figures` returns; the first that is better higher or lower selects checkpoints, unless evaluate.metric does."""
    takes_model: ClassVar[bool] = True
    """Whether it trains the network of the settings `model.*`."""
    fields: ClassVar[frozenset[str]] = frozenset()
    """The kinds of fields that it needs of the data: {"label"}, {"map"}, {"boxes"}."""
    splits: ClassVar[bool] = True
    """Whether the objective is a mean over examples, so that optimizer.accumulate may compute it in parts."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """Collections that never change, such as a teacher. They are in no checkpoint: `init` or `pretrained` makes them again."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts of the data that are tallied beside the one that is evaluated: ("train",) for a nearest-neighbor classifier."""

    @classmethod
    @abc.abstractmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """The task for a data set, with the settings task.arguments. Raises UserError where settings and data do not fit."""

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Variables:
        """Initial variables."""

    def pretrained(self, setup: Setup, say: Callable[[str], None], *, new_head: bool = True) -> Variables:
        """The weights in model.pretrained instead, for this data; `say` is called with lines that tell what was changed."""
        raise UserError(f"model.pretrained: the task {setup.config.task.name} starts from fresh parameters; leave it empty")

    # In the jitted training step

    @abc.abstractmethod
    def inputs(self, batch: Batch, keys: Keys) -> Inputs:
        """What the objective takes of a batch (B examples, uint8): augmented and normalized images, targets."""

    @abc.abstractmethod
    def objective(
        self, variables: Variables, inputs: Inputs, key: jax.Array, phase: Phase
    ) -> tuple[jax.Array, tuple[Metrics, Variables]]:
        """The loss of a phase (a scalar), its metrics, and the collections that it changes, such as "batch_stats"."""

    def after(self, variables: Variables, step: jax.Array) -> Variables:
        """The variables after all phases of a step: what follows no gradient, such as a moving target network."""
        del step
        return variables

    # In the jitted evaluation and prediction

    @abc.abstractmethod
    def predict(self, variables: Variables, batch: Batch) -> Outputs:
        """What the network says of a batch's images. The batch may have no other field."""

    @abc.abstractmethod
    def tally(self, variables: Variables, batch: Batch) -> Tally:
        """The smallest summary of each example from which `figures` can be computed."""

    # On the host

    @abc.abstractmethod
    def figures(self, tally: Tally, beside: Mapping[str, Tally]) -> dict[str, float]:
        """The quantities, from the tally of exactly N examples; `beside` has the tallies of the parts in `needs`."""

    def sections(self, tally: Tally, image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """The task's own sections of the report page, as HTML; `image_at` gives image i as (H, W, C) uint8."""
        del tally, image_at
        return ()

    @abc.abstractmethod
    def describe(self, one: Outputs, top: int | None = None) -> dict[str, Any]:
        """What was predicted for one image, as JSON: at most `top` classes, boxes, … (None: all); `one` has no batch axis."""

    def lines(self, described: Mapping[str, Any]) -> Sequence[str]:
        """What `describe` returned, as lines for a person."""
        return [f"{name}: {value}" for name, value in described.items()]

    def cells(self, one: Outputs) -> dict[str, str]:
        """The columns of prediction's table for one image."""
        return {name: str(value) for name, value in self.describe(one, 1).items() if not isinstance(value, list | dict)}

    def draw(self, one: Outputs, photo: Photo) -> np.ndarray | None:
        """The photo with the prediction drawn on it, (height, width, 3) uint8 RGB; None where the task draws nothing."""
        del one, photo
        return None

    @abc.abstractmethod
    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """Each network by its name within "params" ("" for all of them), and the shape (H, W, C) of its input."""

    def at_size(self, size: tuple[int, int]) -> Self:
        """The same for images of this (height, width), see data.sizes."""
        return dataclasses.replace(self, preprocessing=dataclasses.replace(self.preprocessing, size=size))


def init_network(model: nn.Module, input_shape: tuple[int, int, int], key: jax.Array) -> Variables:
    """Initial variables of a network for images (1, height, width, C)."""
    variables = model.init(key, jnp.zeros((1, *input_shape), jnp.float32), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

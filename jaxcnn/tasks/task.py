"""The interface of a task: the targets of a batch, the objective, and how results are measured and presented.

The training loop, evaluation, prediction and the report page use only this interface. A task is a frozen dataclass of pure
functions: it holds networks, preprocessing and settings, but no state. In shapes, B is the number of examples in a batch,
N the number of examples that are evaluated, and (H, W, C) are the height, width and channels of an image.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcnn.config import Config
from jaxcnn.data import Augmentation, Batch, Preprocessing, Source
from jaxcnn.data.class_maps import Color
from jaxcnn.data.photo import Photo
from jaxcnn.errors import UserError
from jaxcnn.models import create_model
from jaxcnn.report import Quantity

Variables = dict[str, Any]
"""Collection name -> nested dict of arrays: "params", "batch_stats", and collections that a task adds, such as "target" or
"queue". A task with several networks has one entry per network in "params" and in "batch_stats"."""
Inputs = Any
"""The inputs of an objective: a pytree of arrays with leading axis B."""
Outputs = Any
"""The predictions for a batch: a pytree of arrays with leading axis B, or without it for a single image."""
Tally = Any
"""A summary per example, from which the metrics are computed: a pytree of arrays with leading axis B or N. Padding is removed
before batches are concatenated, so that the metrics cover each of the N examples exactly once."""
Metrics = dict[str, jax.Array]
"""Name -> scalar, float32."""


class Phase(NamedTuple):
    """One gradient computation and one parameter update within a step."""

    name: str = ""
    trains: tuple[str, ...] = ()
    """The entries of "params" that are updated; () for all of them."""
    every: int = 1
    """The phase runs in every n-th step. In other steps it is skipped, and its metrics are NaN."""


class Keys(NamedTuple):
    """The random keys of a step. `run` is derived from the seed alone, the others from the seed and the step."""

    augment: jax.Array
    dropout: jax.Array
    mix: jax.Array
    run: jax.Array


class Setup(NamedTuple):
    """The arguments of `Task.make`, from the settings and data of a run, or from a checkpoint for evaluation and prediction."""

    config: Config
    class_names: tuple[str, ...]
    fields: Mapping[str, str]
    """Name -> kind of each target in the data set, such as {"label": "labels"}; see jaxcnn.data.Field."""
    preprocessing: Preprocessing
    augment: Augmentation
    train: Source | None = None
    """The training set; None for a network that is only evaluated."""
    class_colors: tuple[Color, ...] = ()
    """The colors (red, green, blue) of the classes in class maps; () for default colors."""

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the setting model.arguments. Raises UserError if it has `num_classes` or `dtype`, which are set elsewhere."""
        arguments = dict(self.config.model.arguments)
        origins = {"num_classes": "the data set determines it", "dtype": "use the setting model.dtype"}
        for name, origin in origins.items():
            if name in arguments:
                raise UserError(f"model.arguments.{name}: can't be set here; {origin}")
        return arguments

    def network(self, num_classes: int) -> nn.Module:
        """Returns the network of the settings `model.*` with `num_classes` outputs; 0 for pooled features without a head."""
        model = self.config.model
        return create_model(model.name, **self.model_arguments, num_classes=num_classes, dtype=model.dtype)


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """Base class of all tasks. Fields after `dataclasses.KW_ONLY` are the settings task.arguments; `make` sets the others."""

    preprocessing: Preprocessing

    phases: ClassVar[tuple[Phase, ...]] = (Phase(),)
    """The updates within a step, in order."""
    quantities: ClassVar[tuple[Quantity, ...]]
    """The metrics that `figures` returns. The first whose `better` is set selects checkpoints, unless evaluate.metric does."""
    takes_model: ClassVar[bool] = True
    """True if the task trains the network of the settings `model.*`."""
    network_task: ClassVar[str] = ""
    """The task of the networks that it can train, "classification" or "segmentation"; "" for any. Others are refused."""
    fields: ClassVar[frozenset[str]] = frozenset()
    """The targets that the data set must have: {"label"}, {"map"}, {"boxes"}."""
    splits: ClassVar[bool] = True
    """True if the objective is a mean over examples, so that optimizer.accumulate may compute it in parts of a batch."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """Collections that never change, such as a teacher. Checkpoints omit them; `init` or `pretrained` recreates them."""
    drawings: ClassVar[tuple[str, ...]] = ()
    """The names of the drawings that `draw` returns, () for none. predict.py writes the drawing "" of photo.jpg to photo.png,
    and the drawing "map" to photo_map.png."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Additional splits to tally in every evaluation, such as ("train",) for a nearest-neighbor classifier."""

    @classmethod
    @abc.abstractmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """Returns the task for the settings and data set in `setup`.

        Args:
          setup: the settings, the classes and fields of the data set, the preprocessing and the augmentation.
          **arguments: the settings task.arguments, checked against the annotations of the keyword-only fields.

        Raises:
          UserError: the settings do not fit the data set.
        """

    @abc.abstractmethod
    def init(self, key: jax.Array) -> Variables:
        """Returns the initial variables: "params", "batch_stats" ({} if there are none) and further collections.

        The call is jitted.

        Args:
          key: a scalar key array, from the setting seed.
        """

    def pretrained(self, setup: Setup, say: Callable[[str], None], *, new_head: bool = True) -> Variables:
        """Returns the variables to start from if the setting model.pretrained is given, with the structure that `init` returns.

        Args:
          setup: as in `make`.
          say: is called with each line that describes the weights and how they were changed for this data set.
          new_head: False if the weights must be used with their own head, as in evaluation without training.

        Raises:
          UserError: the weights can't be found or do not fit, or (as here) the task does not support them.
        """
        raise UserError(f"model.pretrained: the task {setup.config.task.name} does not support it; leave it empty")

    # In the jitted training step

    @abc.abstractmethod
    def inputs(self, batch: Batch, keys: Keys) -> Inputs:
        """Returns the inputs of the objective: augmented, normalized images and the targets.

        Args:
          batch: "image" (B, H, W, C) uint8, "index" and "epoch" (B,) int32, and the targets in `fields`: "label" (B,) or
            (B, K) int32, "map" (B, H, W) uint8, "boxes" (B, M, 4) float32 with "classes" (B, M) int32.
          keys: the random keys of the step.

        Returns:
          A pytree of arrays with leading axis B, typically images (B, height, width, C) float32 and targets.
        """

    @abc.abstractmethod
    def objective(
        self, variables: Variables, inputs: Inputs, key: jax.Array, phase: Phase
    ) -> tuple[jax.Array, tuple[Metrics, Variables]]:
        """Returns the loss of a phase, which is differentiated with respect to the parameters in `phase.trains`.

        Args:
          variables: all variables, as changed by the phases before.
          inputs: as returned by `inputs`; with optimizer.accumulate, a part of the batch.
          key: a random key for dropout, different for each step, phase and part.
          phase: one of `phases`.

        Returns:
          (loss, (metrics, collections)). The loss is a scalar, float32. Metrics are scalars, logged as train_NAME. Collections
          are those that replace others in the variables, such as {"batch_stats": …}; "params" is not among them.
        """

    def after(self, variables: Variables, step: jax.Array) -> Variables:
        """Returns the variables at the end of a step, for updates without a gradient such as a moving-average target network.

        Args:
          variables: all variables, as updated by all phases of the step.
          step: the number of the step, a scalar int32 that starts at 0.

        Returns:
          Variables of the same structure, shapes and dtypes.
        """
        del step
        return variables

    # In the jitted evaluation and prediction

    @abc.abstractmethod
    def predict(self, variables: Variables, batch: Batch) -> Outputs:
        """Returns the predictions for a batch of images.

        Args:
          variables: all variables.
          batch: "image" (B, H, W, C) uint8. Other fields must not be required.

        Returns:
          A pytree of arrays with leading axis B, such as logits (B, K).
        """

    @abc.abstractmethod
    def tally(self, variables: Variables, batch: Batch) -> Tally:
        """Returns a summary of each example of a batch, as small as possible, from which `figures` computes the metrics.

        Args:
          variables: all variables.
          batch: as in `inputs`, with "mask" (B,) bool. Rows where the mask is False are padding and are dropped afterwards.

        Returns:
          A pytree of arrays with leading axis B, such as {"logits": (B, K), "label": (B,)}.
        """

    # On the host

    def without_padding(self, output: Outputs, photo: Photo) -> Outputs:
        """Returns the prediction for one image without what is outside of the photo, if the network's input is padded.

        Args:
          output: the result of `predict` for one image: a pytree of NumPy arrays without the axis B.
          photo: the photo and its position in the network's input.
        """
        del photo
        return output

    @abc.abstractmethod
    def figures(self, tally: Tally, needed: Mapping[str, Tally]) -> dict[str, float]:
        """Returns the metrics of N examples, by the names in `quantities`.

        Args:
          tally: the tallies of all batches, concatenated: a pytree of NumPy arrays with leading axis N.
          needed: the same for each split in `needs`, by the name of the split.
        """

    def sections(self, tally: Tally, image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """Returns the task's sections of the report page as HTML, made with jaxcnn.report.html.section.

        Args:
          tally: that of the test set, as in `figures`.
          image_at: returns the image (H, W, C) uint8 of example i of the tally.
        """
        del tally, image_at
        return ()

    @abc.abstractmethod
    def describe(self, output: Outputs, top: int | None = None) -> dict[str, Any]:
        """Returns the prediction for one image as a dict that can be written as JSON.

        Args:
          output: the result of `without_padding` for one image.
          top: the maximum number of classes, boxes or other entries; None for all.
        """

    def lines(self, described: Mapping[str, Any]) -> Sequence[str]:
        """Returns the lines that predict.py prints for one image, from the result of `describe`."""
        return [f"{name}: {value}" for name, value in described.items()]

    def cells(self, output: Outputs) -> dict[str, str]:
        """Returns one image's row in the table that predict.py writes, as column name -> text; `output` as in `describe`."""
        return {name: str(value) for name, value in self.describe(output, 1).items() if not isinstance(value, list | dict)}

    def draw(self, output: Outputs, photo: Photo) -> Mapping[str, np.ndarray | Image.Image]:
        """Returns the drawings of the prediction for one image, by the names in `drawings`.

        Each is (height, width, 3) uint8 RGB, or a Pillow image, such as a palette image.

        Args:
          output: as in `describe`.
          photo: the photo and its position in the network's input, to convert points and maps to pixels of the photo.
        """
        del output, photo
        return {}

    @abc.abstractmethod
    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """Returns each network and the shape (H, W, C) of its input, by the network's name in "params".

        The name is "" if "params" holds the parameters of a single network directly.
        """

    def at_size(self, size: tuple[int, int]) -> Self:
        """Returns the task for network inputs of another size (height, width); see jaxcnn.data.sizes."""
        return dataclasses.replace(self, preprocessing=dataclasses.replace(self.preprocessing, size=size))


def init_network(model: nn.Module, input_shape: tuple[int, int, int], key: jax.Array) -> Variables:
    """Returns the initial variables {"params", "batch_stats"} of a network for images of `input_shape` (H, W, C)."""
    variables = model.init(key, jnp.zeros((1, *input_shape), jnp.float32), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

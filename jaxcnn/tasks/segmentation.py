"""Semantic segmentation: the class of each pixel. Void pixels are never counted, in training or in evaluation."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data import Augmentation, Batch, Source
from jaxcnn.data.fields import VOID
from jaxcnn.data.photo import Photo
from jaxcnn.errors import UserError
from jaxcnn.report.overlays import draw_map
from jaxcnn.settings import NotNegative, Positive
from jaxcnn.tasks import segmentation_sections
from jaxcnn.tasks.segmentation_losses import SegmentationLoss, cross_entropy, make_segmentation_loss, median_frequency_weights
from jaxcnn.tasks.segmentation_metrics import confusion_counts, segmentation_metrics
from jaxcnn.tasks.starting_weights import starting_variables
from jaxcnn.tasks.task import Keys, Metrics, Phase, Quantity, Setup, Task, Variables, init_network

SMALL_MAP = 96  # longest side of the maps that are kept for the report page


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Semantic segmentation with any network that returns logits (N, H, W, K) (Long et al. 2015, arXiv:1411.4038).

    Attributes:
      losses: pairs (name, weight) of the losses that are added; see jaxcnn.tasks.segmentation_losses.LOSSES.
      class_weights: weights of the classes in the cross entropy and the focal loss: none, or the median frequency balancing of
        the training set's pixels.
      auxiliary_weight: weight of the loss of each auxiliary head, if the network has any.
      scales: sizes relative to the network's input over which predictions are averaged.
      flip: whether predictions are averaged over the image and its mirror image.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    augment: Augmentation = dataclasses.field(default_factory=lambda: Augmentation(()))
    loss: SegmentationLoss | None = None
    """The training loss. None if the network is only evaluated."""
    _: dataclasses.KW_ONLY
    losses: tuple[tuple[str, NotNegative], ...] = (("cross_entropy", 1.0),)
    class_weights: Literal["none", "median_frequency"] = "none"
    auxiliary_weight: NotNegative = 0.5
    scales: tuple[Positive, ...] = (1.0,)
    flip: bool = False

    quantities = (
        Quantity("mean_iou", "mean IoU", "{:.2%}", "higher"),
        Quantity("pixel_accuracy", "pixel accuracy", "{:.2%}", "higher"),
        Quantity("class_accuracy", "class accuracy", "{:.2%}", "higher"),
        Quantity("mean_dice", "mean Dice", "{:.2%}", "higher"),
        Quantity("loss", "loss", "{:.4f}", "lower"),
        Quantity("examples", "examples", "{:,}"),
    )
    fields = frozenset({"map"})
    network_task = "segmentation"
    splits = False  # the loss is a mean over the pixels of the batch, whose number varies with the void ones

    @classmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """Returns the task with the network of the settings `model.*`.

        Raises:
          UserError: no scale, an unknown loss, or no pixel of the training set has a class.
        """
        names, train = setup.class_names, setup.train
        task = cls(setup.preprocessing, setup.network(len(names)), names, setup.augment, **arguments)
        if not task.scales:
            raise UserError("task.arguments.scales: expected at least one scale, such as (1.0,)")
        if train is not None and all((values == VOID).all() for values in train.column("map")):
            raise UserError(f"{setup.config.data.name}: all pixels of the training set are void")
        weights = None
        if train is not None and task.class_weights == "median_frequency":
            weights = median_frequency_weights(pixel_counts(train, len(names)))
        return dataclasses.replace(task, loss=make_segmentation_loss(dict(task.losses), weights))

    def init(self, key: jax.Array) -> Variables:
        """Returns the initial variables of the network."""
        return init_network(self.model, self.preprocessing.input_shape, key)

    def pretrained(self, setup: Setup, say: Callable[[str], None], *, new_head: bool = True) -> Variables:
        """Returns the weights in model.pretrained: of the network, with a new head for other classes, or of its encoder.

        Raises:
          UserError: the weights do not fit, or they have other classes or only the encoder and `new_head` is False.
        """
        return starting_variables(setup, "segmentation", say, new_head=new_head)

    # In the jitted training step

    def inputs(self, batch: Batch, keys: Keys) -> tuple[jax.Array, jax.Array]:
        """Returns images (B, height, width, C) float32 and maps (B, height, width) uint8, moved alike."""
        augment = functools.partial(self.augment.with_fields, key=keys.augment)
        images, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]}, augment)
        return images, fields["map"]

    def objective(
        self, variables: Variables, inputs: tuple[jax.Array, jax.Array], key: jax.Array, phase: Phase
    ) -> tuple[jax.Array, tuple[Metrics, Variables]]:
        """Returns the loss of a batch with the weighted losses of auxiliary heads. Metrics are loss and pixel accuracy."""
        assert self.loss is not None
        images, maps = inputs
        rngs = {"dropout": key}
        logits, updates = self.model.apply(variables, images, train=True, mutable=["batch_stats", "auxiliary"], rngs=rngs)
        auxiliary = [self.auxiliary_weight * self.loss(sown, maps) for sown in jax.tree.leaves(updates.get("auxiliary", {}))]
        loss = sum(auxiliary, start=self.loss(logits, maps))
        counted = (maps != VOID).astype(jnp.float32)
        correct = (logits.argmax(axis=-1) == maps.astype(jnp.int32)).astype(jnp.float32)
        metrics = {"loss": loss, "pixel_accuracy": (correct * counted).sum() / jnp.maximum(counted.sum(), 1.0)}
        return loss, (metrics, {"batch_stats": updates.get("batch_stats", {})})

    # In the jitted evaluation and prediction

    def predict(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns the classes (B, height, width) uint8 of the pixels of the network's input."""
        return self._log_probabilities(variables, batch).argmax(axis=-1).astype(jnp.uint8)

    def tally(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """Returns the confusion counts (B, K, K) int32, the loss (B,) float32, and small maps of the classes for the page."""
        _, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]})
        maps, scores = fields["map"], self._log_probabilities(variables, batch)
        predicted = scores.argmax(axis=-1).astype(jnp.uint8)
        losses = jax.vmap(lambda scores, maps: cross_entropy(scores[None], maps[None]))(scores, maps)
        step = -(-max(maps.shape[1:]) // SMALL_MAP)
        small = {"small_map": maps[:, ::step, ::step], "small_prediction": predicted[:, ::step, ::step]}
        return {"counts": confusion_counts(predicted, maps, len(self.class_names)), "loss": losses, **small}

    def _log_probabilities(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns the logarithm of the class probabilities, (B, height, width, K) float32, averaged over scales and flips."""
        images = self.preprocessing(batch["image"])
        batch_size, height, width, channels = images.shape
        views = []
        for scale in self.scales:
            size = (max(1, round(scale * height)), max(1, round(scale * width)))
            scaled = jax.image.resize(images, (batch_size, *size, channels), "bilinear") if scale != 1 else images
            for mirrored in (False, True) if self.flip else (False,):
                logits = self.model.apply(variables, scaled[:, :, ::-1] if mirrored else scaled, train=False)
                assert isinstance(logits, jax.Array)
                logits = logits[:, :, ::-1] if mirrored else logits
                if scale != 1:
                    logits = jax.image.resize(logits, (batch_size, height, width, logits.shape[-1]), "bilinear")
                views.append(jax.nn.log_softmax(logits.astype(jnp.float32)))
        if len(views) == 1:
            return views[0]
        return jax.nn.logsumexp(jnp.stack(views), axis=0) - jnp.log(jnp.float32(len(views)))

    # On the host

    def figures(self, tally: dict[str, np.ndarray], needed: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics of all pixels together, and the loss as the mean over all pixels that are not void."""
        pixels = tally["counts"].sum(axis=(1, 2)).astype(np.float64)
        loss = float((tally["loss"] * pixels).sum() / pixels.sum()) if pixels.sum() else float("nan")
        return {**segmentation_metrics(tally["counts"].sum(axis=0)), "loss": loss, "examples": len(pixels)}

    def sections(self, tally: dict[str, np.ndarray], image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """Returns the per-class metrics, the confusion matrix, and the images with the lowest mean IoU."""
        return segmentation_sections.sections(tally, self.class_names, image_at)

    def describe(self, output: np.ndarray, top: int | None = None) -> dict[str, Any]:
        """Returns {"classes": [{"name", "share"}, …]}, the share of the pixels of each class that occurs, the largest first."""
        shares = self._shares(output)
        ranked = [k for k in np.argsort(-shares, kind="stable")[:top] if shares[k]]
        return {"classes": [{"name": self.class_names[k], "share": float(shares[k])} for k in ranked]}

    def lines(self, described: Mapping[str, Any]) -> Sequence[str]:
        """Returns one line per class: share of the pixels and name."""
        return [f"{row['share']:7.2%}  {row['name']}" for row in described["classes"]]

    def cells(self, output: np.ndarray) -> dict[str, str]:
        """Returns the share of the pixels of each class."""
        return {f"share({name})": f"{share:.6g}" for name, share in zip(self.class_names, self._shares(output), strict=True)}

    def _shares(self, output: np.ndarray) -> np.ndarray:
        return np.bincount(output.ravel(), minlength=len(self.class_names)) / output.size

    def draw(self, output: np.ndarray, photo: Photo) -> np.ndarray:
        """Returns the photo at its original size, blended with the colors of the classes."""
        return draw_map(photo.original(), photo.map_to_photo(output), len(self.class_names))

    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """Returns the network and the shape of its input."""
        return {"": (self.model, self.preprocessing.input_shape)}


def pixel_counts(source: Source, num_classes: int) -> np.ndarray:
    """Returns the number of pixels of each class in each map of a data set, (N, num_classes) int64."""
    maps = source.column("map")
    return np.stack([np.bincount(values.ravel(), minlength=256)[:num_classes] for values in maps])

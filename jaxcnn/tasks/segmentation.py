"""Semantic segmentation: the class of each pixel. Void pixels are never counted, in training or in evaluation."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxcnn.data import Augmentation, Batch, Resized
from jaxcnn.data.class_maps import Color
from jaxcnn.data.fields import VOID
from jaxcnn.data.inspect import pixel_counts
from jaxcnn.data.photo import Photo
from jaxcnn.errors import UserError
from jaxcnn.report.overlays import class_colors, draw_map, draw_outlines, palette_image
from jaxcnn.settings import Count, NotNegative, Positive
from jaxcnn.tasks import segmentation_sections
from jaxcnn.tasks.segmentation_losses import SegmentationLoss, cross_entropy, make_segmentation_loss, median_frequency_weights
from jaxcnn.tasks.segmentation_metrics import confusion_counts, segmentation_metrics
from jaxcnn.tasks.sliding_windows import logits_in_windows
from jaxcnn.tasks.starting_weights import starting_variables
from jaxcnn.tasks.task import Keys, Metrics, Phase, Quantity, Setup, Task, Variables, init_network

_SAMPLED = 512  # maps that are checked before training, if it does not need the pixel counts of all
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
      window: (height, width) in pixels of overlapping windows that are predicted separately; () for the full image at once.
        Their size is the same at all scales. A window that is larger than the scaled image is reduced to its size.
      stride: distance of the windows in pixels, (vertical, horizontal); () for two thirds of the window.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    augment: Augmentation = dataclasses.field(default_factory=lambda: Augmentation(()))
    loss: SegmentationLoss | None = None
    """The training loss. None if the network is only evaluated."""
    class_colors: tuple[Color, ...] = ()
    """The colors of the classes in drawings, RGB from 0 to 255. () for those of jaxcnn.report.overlays.class_colors."""
    _: dataclasses.KW_ONLY
    losses: tuple[tuple[str, NotNegative], ...] = (("cross_entropy", 1.0),)
    class_weights: Literal["none", "median_frequency"] = "none"
    auxiliary_weight: NotNegative = 0.5
    scales: tuple[Positive, ...] = (1.0,)
    flip: bool = False
    window: tuple[Count, Count] | tuple[()] = ()
    stride: tuple[Count, Count] | tuple[()] = ()

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
    drawings = ("", "map", "outlines")
    splits = False  # the loss is a mean over the pixels of the batch, whose number varies with the void ones

    def __post_init__(self) -> None:
        """Raises UserError if `stride` has no effect, or is larger than `window`, so that pixels would be in no window."""
        if self.stride and not self.window:
            raise UserError("task.arguments.stride: has no effect without task.arguments.window")
        if any(distance > side for distance, side in zip(self.stride, self.window, strict=False)):
            raise UserError(f"task.arguments.stride: expected at most the window, {self.window}, got {self.stride}")

    @classmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """Returns the task with the network of the settings `model.*`.

        Raises:
          UserError: no scale, an unknown loss, images of which evaluation would use only the centers, or a training set with
            fewer than two classes in its maps.
        """
        names, train, colors = setup.class_names, setup.train, setup.class_colors
        task = cls(setup.preprocessing, setup.network(len(names)), names, setup.augment, class_colors=colors, **arguments)
        if not task.scales:
            raise UserError("task.arguments.scales: expected at least one scale, such as (1.0,)")
        if isinstance(train, Resized) and train.fit == "crop":
            raise UserError("data.fit: crop would evaluate only the centers of images; set it to pad or stretch")
        weights = None
        if train is not None:
            weighted = task.class_weights == "median_frequency"
            counts = pixel_counts(train, len(names), 0 if weighted else _SAMPLED)
            _check_classes(setup.config.data.name, counts, names)
            weights = median_frequency_weights(counts) if weighted else None
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
        """Returns images (B, height, width, C) float32 and maps (B, height, width) uint8, moved and mixed alike."""
        augment = functools.partial(
            self.augment.with_fields, key=keys.augment, run_key=keys.run, index=batch["index"], epoch=batch["epoch"]
        )
        images, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]}, augment)
        return self.augment.mix(images, fields["map"], keys.mix)

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
        return self._scores(variables, batch).argmax(axis=-1).astype(jnp.uint8)

    def tally(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """Returns the confusion counts (B, K, K) int32, the loss (B,) float32, and small maps of the classes for the page."""
        _, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]})
        maps, scores = fields["map"], self._scores(variables, batch)
        predicted = scores.argmax(axis=-1).astype(jnp.uint8)
        losses = jax.vmap(lambda scores, maps: cross_entropy(scores[None], maps[None]))(scores, maps)
        step = -(-max(maps.shape[1:]) // SMALL_MAP)
        small = {"small_map": maps[:, ::step, ::step], "small_prediction": predicted[:, ::step, ::step]}
        return {"counts": confusion_counts(predicted, maps, len(self.class_names)), "loss": losses, **small}

    def _scores(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns the logits, or the logarithm of the mean probabilities of several views, (B, height, width, K) float32."""
        images = self.preprocessing(batch["image"])
        batch_size, height, width, channels = images.shape
        views = []
        for scale in self.scales:
            size = (max(1, round(scale * height)), max(1, round(scale * width)))
            scaled = jax.image.resize(images, (batch_size, *size, channels), "bilinear") if scale != 1 else images
            for mirrored in (False, True) if self.flip else (False,):
                logits = self._logits(variables, scaled[:, :, ::-1] if mirrored else scaled)
                logits = logits[:, :, ::-1] if mirrored else logits
                if scale != 1:
                    logits = jax.image.resize(logits, (batch_size, height, width, logits.shape[-1]), "bilinear")
                views.append(logits.astype(jnp.float32))
        if len(views) == 1:
            return views[0]
        return functools.reduce(jnp.logaddexp, map(jax.nn.log_softmax, views)) - jnp.log(jnp.float32(len(views)))

    def _logits(self, variables: Variables, images: jax.Array) -> jax.Array:
        """Returns the logits (B, height, width, K) of images, or the logarithm of the mean probabilities over windows."""

        def network(images: jax.Array) -> jax.Array:
            logits = self.model.apply(variables, images, train=False)
            assert isinstance(logits, jax.Array)
            return logits

        if not self.window:
            return network(images)
        stride = self.stride or (round(2 / 3 * self.window[0]), round(2 / 3 * self.window[1]))
        return logits_in_windows(network, images, self.window, stride)

    # On the host

    def figures(self, tally: dict[str, np.ndarray], needed: Mapping[str, Any]) -> dict[str, float]:
        """Returns the metrics of all pixels together, and the loss as the mean over all pixels that are not void."""
        pixels = tally["counts"].sum(axis=(1, 2)).astype(np.float64)
        loss = float((tally["loss"] * pixels).sum() / pixels.sum()) if pixels.sum() else float("nan")
        return {**segmentation_metrics(tally["counts"].sum(axis=0)), "loss": loss, "examples": len(pixels)}

    def sections(self, tally: dict[str, np.ndarray], image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """Returns the per-class metrics, the confusion matrix, and the images with the lowest mean IoU."""
        return segmentation_sections.sections(tally, self.class_names, self._colors, image_at)

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
        counts = np.bincount(output[output != VOID], minlength=len(self.class_names))
        return counts / counts.sum()

    def without_padding(self, output: np.ndarray, photo: Photo) -> np.ndarray:
        """Returns the classes (height, width), VOID outside of the photo."""
        return np.where(photo.inside(*output.shape), output, np.uint8(VOID))

    def draw(self, output: np.ndarray, photo: Photo) -> dict[str, np.ndarray | Image.Image]:
        """Returns the photo blended with the colors of the classes, the map of the classes, and the photo with their outlines.

        All have the photo's original size. The map is VOID outside of the network's input.
        """
        image, classes = photo.original(), photo.map_to_photo(output)
        return {
            "": draw_map(image, classes, self._colors),
            "map": palette_image(classes, self._colors),
            "outlines": draw_outlines(image, classes, self._colors),
        }

    @property
    def _colors(self) -> np.ndarray:
        return class_colors(len(self.class_names), self.class_colors)

    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """Returns the network and the shape of its input."""
        return {"": (self.model, self.preprocessing.input_shape)}


def _check_classes(name: str, counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Raises UserError if the training set's pixels, (N, K) per map and class, are all void or all of one class."""
    occurring = np.flatnonzero(counts.sum(axis=0))
    if not occurring.size:
        raise UserError(f"{name}: all pixels of the training set are void")
    if occurring.size == 1:
        only = class_names[occurring[0]]
        raise UserError(
            f'{name}: all pixels of the training set are "{only}" or void; if the maps denote other classes by values such as '
            f"{VOID}, state these values in the class file"
        )

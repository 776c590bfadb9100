"""Classification: one of several classes, one of two classes by a single logit, or several labels per image."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data import Augmentation, Batch, InferenceView, make_views
from jaxcnn.data.fields import LabelKind
from jaxcnn.data.photo import Photo
from jaxcnn.report.overlays import draw_caption
from jaxcnn.tasks import classification_sections
from jaxcnn.tasks.classification_metrics import accuracy, probabilities, top_k_accuracy
from jaxcnn.tasks.losses import LOSSES, Loss, correct, kind_of, make_loss, num_outputs, targets_of
from jaxcnn.tasks.starting_weights import starting_variables
from jaxcnn.tasks.task import Keys, Metrics, Phase, Quantity, Setup, Task, Variables, init_network


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Image classification (Krizhevsky et al. 2012) with any network that returns logits."""

    model: nn.Module
    class_names: tuple[str, ...]
    kind: LabelKind
    augment: Augmentation = dataclasses.field(default_factory=lambda: Augmentation(()))
    loss: Loss | None = None
    """The training loss: (logits, labels or targets) -> scalar. None if the network is only evaluated."""
    loss_name: str = "softmax_cross_entropy"
    """The loss reported by evaluation, without label smoothing and class weights: a key of LOSSES."""
    auxiliary_weight: float = 0.0
    """The weight of the loss of each auxiliary head. Models sow the logits of these heads in "auxiliary"."""
    views: tuple[InferenceView, ...] = ()
    """The views over which predictions are averaged (test-time augmentation); () for the image alone."""

    quantities = (
        Quantity("accuracy", "accuracy", "{:.2%}", "higher"),
        Quantity("top5_accuracy", "top-5 accuracy", "{:.2%}"),  # can't select checkpoints: only reported for > 5 classes
        Quantity("loss", "loss", "{:.4f}", "lower"),
        Quantity("examples", "examples", "{:,}"),
    )
    fields = frozenset({"label"})
    network_task = "classification"
    drawings = ("",)

    @classmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """Returns the task with the settings `model.*`, `loss.*` and `evaluate.views`."""
        config, names, train = setup.config, setup.class_names, setup.train
        labels = None if train is None else train.column("label")
        kind = kind_of(setup.fields["label"], len(names), config.loss.name, labels)
        return cls(
            preprocessing=setup.preprocessing,
            model=setup.network(num_outputs(kind, len(names))),
            class_names=names,
            kind=kind,
            augment=setup.augment,
            loss=None if train is None else make_loss(config.loss, kind, len(names), labels, names),
            loss_name=config.loss.name,
            auxiliary_weight=config.loss.auxiliary_weight,
            views=tuple(make_views(config.evaluate.views)),
            **arguments,
        )

    def init(self, key: jax.Array) -> Variables:
        """Returns the initial variables of the network."""
        return init_network(self.model, self.preprocessing.input_shape, key)

    def pretrained(self, setup: Setup, say: Callable[[str], None], *, new_head: bool = True) -> Variables:
        """Returns the weights in model.pretrained, with a new head if the data set has other classes.

        Raises:
          UserError: the weights do not fit, or they have other classes and `new_head` is False.
        """
        return starting_variables(setup, self.kind, say, new_head=new_head)

    # In the jitted training step

    def inputs(self, batch: Batch, keys: Keys) -> tuple[jax.Array, jax.Array]:
        """Returns images (B, height, width, C) float32 and labels, or targets (B, K) float32 if the policy mixes images."""
        arguments = {}
        if self.augment.by_epoch:
            arguments = {"run_key": keys.run, "index": batch["index"], "epoch": batch["epoch"]}
        images = self.preprocessing(batch["image"], lambda images: self.augment(images, keys.augment, **arguments))
        labels = batch["label"]
        if self.augment.mixes:
            targets = targets_of(labels, num_outputs(self.kind, len(self.class_names)))
            return self.augment.mix(images, targets, keys.mix)
        return images, labels

    def objective(
        self, variables: Variables, inputs: tuple[jax.Array, jax.Array], key: jax.Array, phase: Phase
    ) -> tuple[jax.Array, tuple[Metrics, Variables]]:
        """Returns the loss of a batch, including the weighted losses of auxiliary heads. Metrics are loss and accuracy."""
        assert self.loss is not None, "the task was made without a training set"
        images, labels = inputs
        rngs = {"dropout": key}
        logits, updates = self.model.apply(variables, images, train=True, mutable=["batch_stats", "auxiliary"], rngs=rngs)
        auxiliary = [self.auxiliary_weight * self.loss(sown, labels) for sown in jax.tree.leaves(updates.get("auxiliary", {}))]
        loss = sum(auxiliary, start=self.loss(logits, labels))
        metrics = {"loss": loss, "accuracy": correct(logits, labels, self.kind).mean()}
        return loss, (metrics, {"batch_stats": updates.get("batch_stats", {})})

    # In the jitted evaluation and prediction

    def predict(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns logits (B, K) float32, averaged over the views; (B, 1) for binary labels."""
        images = self.preprocessing(batch["image"])
        views = [(view.weight, view(images)) for view in self.views] or [(1.0, images)]
        logits = (weight * jnp.asarray(self.model.apply(variables, view, train=False)) for weight, view in views)
        return functools.reduce(jnp.add, logits)

    def tally(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """Returns {"logits": (B, K) float32, "label": (B,) or (B, K) int32}."""
        return {"logits": self.predict(variables, batch), "label": batch["label"]}

    # On the host

    def figures(self, tally: dict[str, np.ndarray], needed: Mapping[str, Any]) -> dict[str, float]:
        """Returns accuracy, loss, number of examples and, for more than 5 classes, top-5 accuracy."""
        logits, labels = tally["logits"], tally["label"]
        metrics = {
            "accuracy": accuracy(logits, labels, self.kind),
            "loss": float(np.asarray(LOSSES[self.loss_name](logits, labels), np.float64).mean()),
            "examples": len(labels),
        }
        if self.kind == "multiclass" and logits.shape[1] > 5:
            metrics["top5_accuracy"] = top_k_accuracy(logits, labels, 5)
        return metrics

    def sections(self, tally: dict[str, np.ndarray], image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """Returns the confusion matrix, the per-class metrics and the most confident mistakes."""
        return classification_sections.sections(tally, self.kind, self.class_names, image_at)

    def describe(self, output: np.ndarray, top: int | None = None) -> dict[str, Any]:
        """Returns {"classes": [{"name", "probability"}, …]}, the most probable class first."""
        row = self.probabilities(output)
        ranked = np.argsort(-row, kind="stable")[:top]
        return {"classes": [{"name": self.class_names[i], "probability": float(row[i])} for i in ranked]}

    def lines(self, described: Mapping[str, Any]) -> Sequence[str]:
        """Returns one line per class: probability and name."""
        return [f"{row['probability']:7.2%}  {row['name']}" for row in described["classes"]]

    def cells(self, output: np.ndarray) -> dict[str, str]:
        """Returns the predicted class, its probability, and the probability of each class.

        For several labels per image, "class" has those with a probability above 50%, separated by "|".
        """
        row = self.probabilities(output).tolist()
        columns = {f"p({name})": f"{p:.6g}" for name, p in zip(self.class_names, row, strict=True)}
        if self.kind == "multilabel":
            return {"class": "|".join(name for name, p in zip(self.class_names, row, strict=True) if p > 0.5), **columns}
        best = self.describe(output, 1)["classes"][0]
        return {"class": best["name"], "probability": f"{best['probability']:.6g}", **columns}

    def draw(self, output: np.ndarray, photo: Photo) -> dict[str, np.ndarray]:
        """Returns the photo with the three most probable classes below it."""
        return {"": draw_caption(photo.original(), self.lines(self.describe(output, 3)))}

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Returns the probabilities of all classes, float32, from one image's logits (K,) or (1,)."""
        return probabilities(logits[None], self.kind)[0]

    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """Returns the network and the shape of its input."""
        return {"": (self.model, self.preprocessing.input_shape)}

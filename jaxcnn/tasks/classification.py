"""Classification: one class of many, one of two by a single logit, or several labels per image."""

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
from jaxcnn.tasks.classification_weights import starting_variables
from jaxcnn.tasks.losses import LOSSES, Loss, correct, kind_of, make_loss, num_outputs, targets_of
from jaxcnn.tasks.task import Keys, Metrics, Phase, Quantity, Setup, Task, Variables, init_network


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Logits from images (Krizhevsky et al. 2012), by any network of the registry."""

    model: nn.Module
    class_names: tuple[str, ...]
    kind: LabelKind
    augment: Augmentation = dataclasses.field(default_factory=lambda: Augmentation(()))
    loss: Loss | None = None
    """The training loss of a batch; None for a network that is only evaluated."""
    loss_name: str = "softmax_cross_entropy"
    """That of evaluation, without smoothing and class weights."""
    auxiliary_weight: float = 0.0
    """Of the loss of each auxiliary head that a model has, its logits sown in "auxiliary"."""
    views: tuple[InferenceView, ...] = ()
    """Those that predictions are averaged over; () for the image itself."""

    quantities = (
        Quantity("accuracy", "accuracy", "{:.2%}", "higher"),
        Quantity("top5_accuracy", "top-5 accuracy", "{:.2%}"),  # of more than 5 classes, so nothing can be selected by it
        Quantity("loss", "loss", "{:.4f}", "lower"),
        Quantity("examples", "examples", "{:,}"),
    )
    fields = frozenset({"label"})

    @classmethod
    def make(cls, setup: Setup, **arguments: Any) -> Self:
        """As the settings `model.*`, `loss.*` and `evaluate.views` ask for."""
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
        """Those of the network."""
        return init_network(self.model, self.preprocessing.input_shape, key)

    def pretrained(self, setup: Setup, say: Callable[[str], None], *, new_head: bool = True) -> Variables:
        """With a fresh head where the data have other classes, unless `new_head` is False: then it is refused."""
        return starting_variables(setup, self.kind, say, new_head=new_head)

    # In the jitted training step

    def inputs(self, batch: Batch, keys: Keys) -> tuple[jax.Array, jax.Array]:
        """Images (B, height, width, C) float32, and labels; where images are mixed, targets (B, K) float32."""
        places = {}
        if self.augment.by_epoch:
            places = {"run_key": keys.run, "index": batch["index"], "epoch": batch["epoch"]}
        images = self.preprocessing(batch["image"], lambda images: self.augment(images, keys.augment, **places))
        labels = batch["label"]
        if self.augment.mixes:
            targets = targets_of(labels, num_outputs(self.kind, len(self.class_names)))
            return self.augment.mix(images, targets, keys.mix)
        return images, labels

    def objective(
        self, variables: Variables, inputs: tuple[jax.Array, jax.Array], key: jax.Array, phase: Phase
    ) -> tuple[jax.Array, tuple[Metrics, Variables]]:
        """The loss of a batch, including the weighted losses of auxiliary heads; its metrics are loss and accuracy."""
        assert self.loss is not None, "make() was not told of training data"
        images, labels = inputs
        rngs = {"dropout": key}
        logits, updates = self.model.apply(variables, images, train=True, mutable=["batch_stats", "auxiliary"], rngs=rngs)
        auxiliary = [self.auxiliary_weight * self.loss(sown, labels) for sown in jax.tree.leaves(updates.get("auxiliary", {}))]
        loss = sum(auxiliary, start=self.loss(logits, labels))
        metrics = {"loss": loss, "accuracy": correct(logits, labels, self.kind).mean()}
        return loss, (metrics, {"batch_stats": updates.get("batch_stats", {})})

    # In the jitted evaluation and prediction

    def predict(self, variables: Variables, batch: Batch) -> jax.Array:
        """Logits (B, K) float32, averaged over the views."""
        images = self.preprocessing(batch["image"])
        views = [(view.weight, view(images)) for view in self.views] or [(1.0, images)]
        logits = (weight * jnp.asarray(self.model.apply(variables, view, train=False)) for weight, view in views)
        return functools.reduce(jnp.add, logits)

    def tally(self, variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """Logits and labels."""
        return {"logits": self.predict(variables, batch), "label": batch["label"]}

    # On the host

    def figures(self, tally: dict[str, np.ndarray], beside: Mapping[str, Any]) -> dict[str, float]:
        """Accuracy, loss, examples; and top-5 accuracy where there are more than 5 classes to choose from."""
        logits, labels = tally["logits"], tally["label"]
        figures = {
            "accuracy": accuracy(logits, labels, self.kind),
            "loss": float(np.asarray(LOSSES[self.loss_name](logits, labels), np.float64).mean()),
            "examples": len(labels),
        }
        if self.kind == "multiclass" and logits.shape[1] > 5:
            figures["top5_accuracy"] = top_k_accuracy(logits, labels, 5)
        return figures

    def sections(self, tally: dict[str, np.ndarray], image_at: Callable[[int], np.ndarray]) -> Sequence[str]:
        """Confusion matrix, classes, worst mistakes."""
        return classification_sections.sections(tally, self.kind, self.class_names, image_at)

    def describe(self, one: np.ndarray, top: int | None = None) -> dict[str, Any]:
        """{"classes": [{"name", "probability"}, the most probable first]}."""
        row = self.probabilities(one)
        ranked = np.argsort(-row, kind="stable")[:top]
        return {"classes": [{"name": self.class_names[i], "probability": float(row[i])} for i in ranked]}

    def lines(self, described: Mapping[str, Any]) -> Sequence[str]:
        """One line per class."""
        return [f"{row['probability']:7.2%}  {row['name']}" for row in described["classes"]]

    def cells(self, one: np.ndarray) -> dict[str, str]:
        """Class, its probability, and the probability of each class. Several labels: those above 50 %, separated by "|"."""
        row = self.probabilities(one).tolist()
        each = {f"p({name})": f"{p:.6g}" for name, p in zip(self.class_names, row, strict=True)}
        if self.kind == "multilabel":
            return {"class": "|".join(name for name, p in zip(self.class_names, row, strict=True) if p > 0.5), **each}
        best = self.describe(one, 1)["classes"][0]
        return {"class": best["name"], "probability": f"{best['probability']:.6g}", **each}

    def draw(self, one: np.ndarray, photo: Photo) -> np.ndarray:
        """The photo, and the three most probable classes below it."""
        return draw_caption(photo.original(), self.lines(self.describe(one, 3)))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(K,) float32 of one image's logits."""
        return probabilities(logits[None], self.kind)[0]

    def networks(self) -> Mapping[str, tuple[nn.Module, tuple[int, int, int]]]:
        """One."""
        return {"": (self.model, self.preprocessing.input_shape)}

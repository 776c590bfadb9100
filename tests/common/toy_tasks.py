"""Small tasks with features that classification does not use: two phases, collections, a frozen teacher, maps, boxes."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.data import Augmentation
from jaxcnn.data.fields import NO_BOX, VOID
from jaxcnn.layers import BatchNorm
from jaxcnn.report import Quantity
from jaxcnn.report.overlays import class_colors, draw_boxes, draw_map
from jaxcnn.tasks.task import Phase, Task


class Encoder(nn.Module):
    """Maps images to `features` numbers, with one hidden layer and batch norm."""

    features: int
    num_classes: int = 0  # every model has this field
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(16, name="hidden")(images.reshape(len(images), -1))
        x = BatchNorm(use_running_average=not train, activation=nn.relu, name="norm")(x)
        return nn.Dense(self.features, name="head")(x)


@dataclasses.dataclass(frozen=True)
class Toy(Task):
    """The base class of the tasks in this file."""

    augment: Augmentation

    takes_model = False

    @classmethod
    def make(cls, setup, **arguments):
        return cls(setup.preprocessing, setup.augment, **arguments)

    def inputs(self, batch, keys):
        return self.preprocessing(batch["image"], lambda images: self.augment(images, keys.augment))

    def predict(self, variables, batch):
        return self.tally(variables, batch)

    def describe(self, one, top=None):
        return {name: float(np.mean(value)) for name, value in one.items()}

    def start(self, network, key, shape=None):
        variables = network.init(key, jnp.zeros((2, *(shape or self.preprocessing.input_shape))), train=False)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


@dataclasses.dataclass(frozen=True)
class Gan(Toy):
    """A non-saturating GAN (Goodfellow et al. 2014, section 3); the generator is trained every other step."""

    _: dataclasses.KW_ONLY
    latents: int = 4

    phases = (Phase("discriminator", ("discriminator",)), Phase("generator", ("generator",), every=2))
    quantities = (Quantity("distance", "distance of the means", better="lower"), Quantity("examples", "examples", "{:,}"))
    drawings = ("",)

    def init(self, key):
        one, other = jax.random.split(key)
        networks = {"generator": self.start(self.generator, one, (self.latents,))}
        networks["discriminator"] = self.start(self.discriminator, other)
        return {part: {name: network[part] for name, network in networks.items()} for part in ("params", "batch_stats")}

    @property
    def generator(self):
        return Encoder(int(np.prod(self.preprocessing.input_shape)), name="generator")

    @property
    def discriminator(self):
        return Encoder(1, name="discriminator")

    def apply(self, name, variables, x, *, train):
        network = {part: variables[part][name] for part in ("params", "batch_stats")}
        return getattr(self, name).apply(network, x, train=train, mutable=["batch_stats"])

    def objective(self, variables, images, key, phase):
        latents = jax.random.normal(key, (len(images), self.latents))
        made, of_generator = self.apply("generator", variables, latents, train=True)
        on_made, _ = self.apply("discriminator", variables, made, train=True)
        on_real, of_discriminator = self.apply("discriminator", variables, images, train=True)
        updates = of_generator if phase.name == "generator" else of_discriminator
        stats = variables["batch_stats"] | {phase.name: updates["batch_stats"]}
        if phase.name == "generator":
            loss = jax.nn.softplus(-on_made).mean()
            return loss, ({"generator_loss": loss}, {"batch_stats": stats})
        loss = (jax.nn.softplus(-on_real) + jax.nn.softplus(on_made)).mean()
        return loss, ({"loss": loss}, {"batch_stats": stats})

    def tally(self, variables, batch):
        """Returns the pixels of each real image and of one generated from its index, N of each at any batch size."""
        index = batch.get("index", jnp.arange(len(batch["image"])))
        latents = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (self.latents,)))(index)
        made, _ = self.apply("generator", variables, latents, train=False)
        return {"made": made, "real": self.preprocessing(batch["image"]).reshape(len(made), -1)}

    def figures(self, tally, beside):
        means = [tally[name].astype(np.float64).mean(axis=0) for name in ("made", "real")]
        return {"distance": float(np.linalg.norm(means[0] - means[1])), "examples": len(tally["made"])}

    def draw(self, one, photo):
        return {"": np.full((*photo.size, 3), 128, np.uint8)}

    def networks(self):
        return {
            "generator": (self.generator, (self.latents, 1, 1)),
            "discriminator": (self.discriminator, self.preprocessing.input_shape),
        }


@dataclasses.dataclass(frozen=True)
class MovingTarget(Toy):
    """A small MoCo (He et al. 2020, algorithm 1).

    The features are trained to agree with those of a target network, a moving average; a queue stores its last features.
    """

    _: dataclasses.KW_ONLY
    momentum: float = 0.9

    quantities = (Quantity("nearest", "1-NN accuracy", "{:.2%}", "higher"), Quantity("examples", "examples", "{:,}"))
    fields = frozenset({"label"})
    splits = False
    needs = ("train",)

    encoder = Encoder(8)

    def init(self, key):
        one, other, queue = jax.random.split(key, 3)
        target = self.start(self.encoder, other)
        return self.start(self.encoder, one) | {"target": target, "queue": {"keys": jax.random.normal(queue, (96, 8))}}

    def objective(self, variables, images, key, phase):
        online = {name: variables[name] for name in ("params", "batch_stats")}
        queries, updates = self.encoder.apply(online, images, train=True, mutable=["batch_stats"])
        keys, of_target = self.encoder.apply(variables["target"], images, train=True, mutable=["batch_stats"])
        unit = [x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-6) for x in (queries, keys)]
        positive, negative = (unit[0] * unit[1]).sum(axis=1, keepdims=True), unit[0] @ variables["queue"]["keys"].T
        loss = -jax.nn.log_softmax(jnp.concatenate([positive, negative], axis=1))[:, 0].mean()
        queue = jnp.concatenate([unit[1], variables["queue"]["keys"]])[:96]
        target = variables["target"] | of_target
        return loss, ({"loss": loss}, {**updates, "target": target, "queue": {"keys": queue}})

    def after(self, variables, step):
        target, params = variables["target"], variables["params"]
        moved = jax.tree.map(lambda t, p: self.momentum * t + (1 - self.momentum) * p, target["params"], params)
        return variables | {"target": target | {"params": moved}}

    def predict(self, variables, batch):
        images = self.preprocessing(batch["image"])
        online = {name: variables[name] for name in ("params", "batch_stats")}
        return {"features": self.encoder.apply(online, images, train=False)}

    def tally(self, variables, batch):
        return self.predict(variables, batch) | {"label": batch["label"]}

    def figures(self, tally, beside):
        distances = ((tally["features"][:, None].astype(np.float64) - beside["train"]["features"][None]) ** 2).sum(axis=2)
        found = beside["train"]["label"][distances.argmin(axis=1)]
        return {"nearest": float((found == tally["label"]).mean()), "examples": len(found)}

    def networks(self):
        return {"": (self.encoder, self.preprocessing.input_shape)}


@dataclasses.dataclass(frozen=True)
class Distillation(Toy):
    """Distillation from a fixed teacher (Hinton et al. 2015), here a random network."""

    _: dataclasses.KW_ONLY
    temperature: float  # required

    quantities = (Quantity("agreement", "agreement", "{:.2%}", "higher"), Quantity("examples", "examples", "{:,}"))
    frozen = ("teacher",)

    encoder = Encoder(10)

    def init(self, key):
        one, other = jax.random.split(key)
        return self.start(self.encoder, one) | {"teacher": self.start(self.encoder, other)}

    def objective(self, variables, images, key, phase):
        online = {name: variables[name] for name in ("params", "batch_stats")}
        logits, updates = self.encoder.apply(online, images, train=True, mutable=["batch_stats"])
        targets = jax.nn.softmax(self.encoder.apply(variables["teacher"], images, train=False) / self.temperature)
        loss = -(targets * jax.nn.log_softmax(logits / self.temperature)).sum(axis=1).mean()
        return loss, ({"loss": loss}, updates)

    def tally(self, variables, batch):
        images, online = self.preprocessing(batch["image"]), {name: variables[name] for name in ("params", "batch_stats")}
        student, teacher = (self.encoder.apply(v, images, train=False) for v in (online, variables["teacher"]))
        return {"agrees": student.argmax(axis=1) == teacher.argmax(axis=1)}

    def figures(self, tally, beside):
        return {"agreement": float(tally["agrees"].mean()), "examples": len(tally["agrees"])}

    def networks(self):
        return {"": (self.encoder, self.preprocessing.input_shape)}


class PerPixel(nn.Module):
    """Maps each pixel's color to logits, (N, H, W, 2)."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(2, name="head")(images)


@dataclasses.dataclass(frozen=True)
class Pixels(Toy):
    """Predicts a class for each pixel; VOID pixels are ignored."""

    quantities = (Quantity("pixel_accuracy", "pixel accuracy", "{:.2%}", "higher"), Quantity("examples", "examples", "{:,}"))
    drawings = ("",)
    fields = frozenset({"map"})

    network = PerPixel()

    def init(self, key):
        return self.start(self.network, key)

    def inputs(self, batch, keys):
        augment = functools.partial(self.augment.with_fields, key=keys.augment)
        images, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]}, augment)
        return self.augment.mix(images, fields["map"], keys.mix)

    def objective(self, variables, inputs, key, phase):
        images, classes = inputs
        logits = self.network.apply(variables, images, train=True)
        known = (classes != VOID).astype(jnp.float32)
        targets = jax.nn.one_hot(classes, 2)  # zeros for VOID
        loss = -(targets * jax.nn.log_softmax(logits)).sum() / known.sum()
        return loss, ({"loss": loss}, {"batch_stats": variables["batch_stats"]})

    def predict(self, variables, batch):
        return self.network.apply(variables, self.preprocessing(batch["image"]), train=False).argmax(axis=-1).astype(jnp.uint8)

    def tally(self, variables, batch):
        _, fields = self.preprocessing.with_fields(batch["image"], {"map": batch["map"]})
        known = fields["map"] != VOID
        right = (self.predict(variables, batch) == fields["map"]) & known
        return {"right": right.sum(axis=(1, 2)), "known": known.sum(axis=(1, 2))}

    def figures(self, tally, beside):
        return {"pixel_accuracy": float(tally["right"].sum() / tally["known"].sum()), "examples": len(tally["right"])}

    def describe(self, one, top=None):
        return {"share": float(one.mean())}

    def draw(self, one, photo):
        return {"": draw_map(photo.original(), photo.map_to_photo(one), class_colors(2))}

    def networks(self):
        return {"": (self.network, self.preprocessing.input_shape)}


@dataclasses.dataclass(frozen=True)
class OneBox(Toy):
    """Predicts the first box, x0, y0, x1, y1 in pixels."""

    quantities = (Quantity("distance", "mean distance of the sides", better="lower"), Quantity("examples", "examples", "{:,}"))
    drawings = ("",)
    fields = frozenset({"boxes"})

    network = Encoder(4)

    def init(self, key):
        return self.start(self.network, key)

    def inputs(self, batch, keys):
        augment = functools.partial(self.augment.with_fields, key=keys.augment)
        fields = {name: batch[name] for name in ("boxes", "classes")}
        return self.preprocessing.with_fields(batch["image"], fields, augment)

    def objective(self, variables, inputs, key, phase):
        images, fields = inputs
        boxes, updates = self.network.apply(variables, images, train=True, mutable=["batch_stats"])
        present = (fields["classes"][:, 0] != NO_BOX).astype(jnp.float32)
        loss = (jnp.abs(boxes - fields["boxes"][:, 0]).sum(axis=1) * present).sum() / jnp.maximum(present.sum(), 1)
        return loss, ({"loss": loss}, updates)

    def predict(self, variables, batch):
        return self.network.apply(variables, self.preprocessing(batch["image"]), train=False)

    def tally(self, variables, batch):
        fields = {name: batch[name] for name in ("boxes", "classes")}
        _, fields = self.preprocessing.with_fields(batch["image"], fields)
        return jnp.abs(self.predict(variables, batch) - fields["boxes"][:, 0]).mean(axis=1)

    def figures(self, tally, beside):
        return {"distance": float(tally.astype(np.float64).mean()), "examples": len(tally)}

    def describe(self, one, top=None):
        return {"box": one.tolist()}

    def draw(self, one, photo):
        box = photo.to_photo(one.reshape(2, 2)).reshape(1, 4)
        return {"": draw_boxes(photo.original(), box, np.zeros(1, int), ["thing"])}

    def networks(self):
        return {"": (self.network, self.preprocessing.input_shape)}


def write_scenes(path, examples=200, size=(12, 16)):
    """Writes an .npz of bright rectangles on dark noise, with maps and boxes; four fifths are for training."""
    generator = np.random.default_rng(0)
    height, width = size
    images = generator.integers(0, 90, (examples, height, width, 3)).astype(np.uint8)
    maps, boxes = np.zeros((examples, height, width), np.uint8), np.zeros((examples, 2, 4), np.float32)
    for image, classes, box in zip(images, maps, boxes[:, 0], strict=True):
        top, left = generator.integers(0, height - 5), generator.integers(0, width - 6)
        box[:] = left, top, left + 5, top + 4
        image[top : top + 4, left : left + 5] += 150
        classes[top : top + 4, left : left + 5] = 1
    classes = np.tile(np.array([1, NO_BOX]), (examples, 1))
    columns = {"images": images, "map": maps, "boxes": boxes, "classes": classes}
    cut = examples * 4 // 5
    parts = {"train": slice(0, cut), "test": slice(cut, None)}
    np.savez(
        path,
        class_names=np.array(["ground", "thing"]),
        **{f"{part}_{name}": column[rows] for part, rows in parts.items() for name, column in columns.items()},
    )

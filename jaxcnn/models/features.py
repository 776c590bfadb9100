"""Feature maps by stage, for explanations, detection and segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from jaxcnn.errors import UserError
from jaxcnn.settings import checked


class Stage(NamedTuple):
    """What feature maps of a stage have, whatever the size of the images."""

    channels: int
    stride: int
    """pixels of the image from one position to the next: 4 in stage 1 of a ResNet"""


def feature_maps(model: nn.Module, variables: Mapping[str, Any], images: jax.Array) -> dict[str, jax.Array]:
    """{"stage1": (N, H, W, C), …}: what each stage of a model in evaluation gives, from the images to the head.

    Every model names its own: `stem` and `stage1` to `stage4` in a ResNet. They are in the model's compute type, in the
    order of the network (sorted by name where the caller jits this). What comes after the last stage falls away in jit.

    A model sows a map under its name; or the submodule of that name sows it under "__call__".
    """
    _, sown = model.apply(variables, images, train=False, mutable=["intermediates"])
    return _by_name(sown)


def _by_name(sown: Mapping[str, Any]) -> dict[str, jax.Array]:
    flat = flatten_dict(sown.get("intermediates", {}), sep="/")
    return {name.removesuffix("/__call__"): maps for name, (maps,) in flat.items()}


def stages(model: nn.Module, channels: int = 3) -> dict[str, Stage]:
    """{"stem": Stage(64, 2), …}: channels and strides of `feature_maps`, in the order of the network, by shapes alone.

    Without padding, maps are smaller than the image's size over their stride; so the stride is taken from how much larger
    the maps of an image are that is 64 pixels larger, which all strides divide. What does not grow with the image is left out.
    """
    smaller, larger = (_shapes(model, (1, side, side, channels)) for side in (320, 384))
    grown = {name: larger[name][1] - shape[1] for name, shape in smaller.items()}
    return {name: Stage(smaller[name][-1], 64 // pixels) for name, pixels in grown.items() if pixels}


def _shapes(model: nn.Module, images: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of all feature maps, in the order of the network, which jax.eval_shape would sort by name."""
    shapes = {}

    def trace(key: jax.Array, x: jax.Array) -> None:
        maps = feature_maps(model, model.init(key, x, train=False), x)
        shapes.update({name: array.shape for name, array in maps.items()})

    jax.eval_shape(trace, jax.random.key(0), jax.ShapeDtypeStruct(images, jnp.float32))
    return shapes


class Backbone(nn.Module):
    """A model that gives feature maps instead of logits; its variables are the model's, under the same names.

    `create_model(name, features_only=True)` makes one. `strides` and `channels` are of the maps that it gives.
    """

    model: nn.Module
    names: tuple[str, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def setup(self) -> None:
        """The model's variables are this module's own."""
        nn.share_scope(self, self.model)

    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Images (N, H, W, C) -> [(N, H/stride, W/stride, channels), …], in the model's compute type."""
        if self.is_initializing():
            self.model(images, train=train)
        collections = [name for name in self.variables if name != "params" and self.is_mutable_collection(name)]
        rngs = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else None
        model = self.model.clone(parent=None, name=None)  # what a child sows could not be read in a parent's init
        _, updates = model.apply(self.variables, images, train=train, mutable=["intermediates", *collections], rngs=rngs)
        maps = _by_name(updates)
        for collection in collections:
            for name, value in updates[collection].items():
                self.put_variable(collection, name, value)
        return [maps[name] for name in self.names]


def backbone(name: str, model: nn.Module, out_indices: Sequence[int] | None) -> Backbone:
    """The Backbone of `model`, created as `name`. Raises UserError if one of `out_indices` is none of its maps."""
    deepest = {stage.stride: (key, stage) for key, stage in stages(model).items() if key != "last"}  # last: before the head
    levels = [deepest[stride] for stride in sorted(deepest)]
    if not levels:
        raise UserError(f"{name}: has no feature maps: it sows none as intermediates")
    every = tuple(range(len(levels)))
    wanted = every if out_indices is None else checked(f"{name}: out_indices", out_indices, tuple[int, ...])
    if not wanted or not all(-len(levels) <= index < len(levels) for index in wanted):
        there = ", ".join(f"{index} {key} (stride {stage.stride})" for index, (key, stage) in enumerate(levels))
        raise UserError(f"{name}: out_indices: expected some of {there}, or negative ones from the end; got {out_indices!r}")
    names, chosen = zip(*(levels[index] for index in wanted), strict=True)
    return Backbone(model, names, tuple(stage.stride for stage in chosen), tuple(stage.channels for stage in chosen))

"""Feature maps, for explanations, detection and segmentation."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.errors import UserError, did_you_mean
from jaxcnn.models.structure import Map, Part, layer_maps, sown_maps, structure
from jaxcnn.settings import checked


def feature_maps(
    model: nn.Module, variables: Mapping[str, Any], images: jax.Array, taps: Collection[str] = ()
) -> dict[str, jax.Array]:
    """{"stage1": (N, H, W, C), …}: what each stage of a model in evaluation gives, from the images to the head.

    Every model names its own: `stem` and `stage1` to `stage4` in a ResNet. `taps` are further layers by their path in
    `params`, "stage5_block1/expand_norm": what they give, their activation included. Maps are in the model's compute type,
    in the order of the network (sorted by name where the caller jits this). What comes after the last one falls away in jit.

    A model sows a map under its name; or the submodule of that name sows it under "__call__".
    """
    _, sown = model.apply(variables, images, train=False, mutable=["intermediates"], capture_intermediates=_are(taps))
    return sown_maps(sown)


def _are(taps: Collection[str]) -> Any:
    """Which modules flax captures."""
    return lambda module, method: method == "__call__" and "/".join(module.path) in taps


def stages(model: nn.Module, channels: int = 3) -> dict[str, Part]:
    """{"stem": Part(…), "stage1": …}: those parts of a model's `structure` that have a feature map, from stem to last stage."""
    return {part.name: part for part in structure(model, channels) if part.stride}


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
        _, updates = model.apply(
            self.variables,
            images,
            train=train,
            mutable=["intermediates", *collections],
            rngs=rngs,
            capture_intermediates=_are(self.names),
        )
        maps = sown_maps(updates)
        for collection in collections:
            for name, value in updates[collection].items():
                self.put_variable(collection, name, value)
        return [maps[name] for name in self.names]


def backbone(name: str, model: nn.Module, out_indices: Sequence[int] | None, taps: Sequence[str] | None) -> Backbone:
    """The Backbone of `model`, created as `name`, of levels or of taps.

    Raises:
      UserError: one of `out_indices` or `taps` is none of its maps, or both are given.
    """
    if taps is not None:
        if out_indices is not None:
            raise UserError(f"{name}: out_indices and taps both say which maps: leave one out")
        names, known = checked(f"{name}: taps", taps, tuple[str, ...]), layer_maps(model)
        for tap in names:
            if tap not in known:
                raise UserError(f"{name}: taps: no layer or stage {tap!r} has a feature map{did_you_mean(tap, known)}")
        return _of_maps(model, names, [known[tap] for tap in names])
    parts = stages(model)
    strided = parts if getattr(model, "output_stride", 32) == 32 else stages(model.clone(output_stride=32))
    deepest = {part.stride: parts[name] for name, part in strided.items() if name != "last"}  # last: before the head
    levels = [deepest[stride] for stride in sorted(deepest)]
    if not levels:
        raise UserError(f"{name}: has no feature maps: it sows none as intermediates")
    every = tuple(range(len(levels)))
    wanted = every if out_indices is None else checked(f"{name}: out_indices", out_indices, tuple[int, ...])
    if not wanted or not all(-len(levels) <= index < len(levels) for index in wanted):
        available = ", ".join(f"{index} {part.name} (stride {part.stride})" for index, part in enumerate(levels))
        raise UserError(
            f"{name}: out_indices: expected some of {available}, or negative ones from the end; got {out_indices!r}"
        )
    chosen = [levels[index] for index in wanted]
    return _of_maps(model, [part.name for part in chosen], chosen)


def _of_maps(model: nn.Module, names: Sequence[str], maps: Sequence[Part | Map]) -> Backbone:
    return Backbone(model, tuple(names), tuple(one.stride for one in maps), tuple(one.channels for one in maps))

"""Feature maps of networks, for explanations, detection and segmentation."""

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
    """Returns the feature maps {"stage1": (N, H, W, C), …} of a model in evaluation mode, from stem to last stage.

        maps = feature_maps(model, variables, images, taps=("stage4_block1/conv2",))

    The names depend on the model: `stem` and `stage1` to `stage4` in a ResNet. `taps` adds the outputs of other layers, named
    by their paths in `params`; the output of a norm includes the activation. Maps have the model's compute type. They are in
    the order of the network, or sorted by name if the caller jits this function; layers after the last map are not computed
    then.

    A model sows a map under its name, or its submodule of that name sows it under "__call__".
    """
    _, sown = model.apply(variables, images, train=False, mutable=["intermediates"], capture_intermediates=_are(taps))
    return sown_maps(sown)


def _are(taps: Collection[str]) -> Any:
    """Returns the filter for flax's `capture_intermediates` that selects these paths."""
    return lambda module, method: method == "__call__" and "/".join(module.path) in taps


def stages(model: nn.Module, channels: int = 3) -> dict[str, Part]:
    """Returns {"stem": Part(…), "stage1": …}: the parts in a model's `structure` that have a feature map."""
    return {part.name: part for part in structure(model, channels) if part.stride}


class Backbone(nn.Module):
    """A model that returns feature maps instead of logits. Its variables have the same names as the model's.

    `create_model(name, features_only=True)` creates one. `names`, `strides` and `channels` describe its outputs, in order.
    """

    model: nn.Module
    names: tuple[str, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def setup(self) -> None:
        """Makes the model's variables those of this module."""
        nn.share_scope(self, self.model)

    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Computes the maps [(N, H/stride, W/stride, channels), …] of images (N, H, W, C), in the model's compute type."""
        if self.is_initializing():
            self.model(images, train=train)
        collections = [name for name in self.variables if name != "params" and self.is_mutable_collection(name)]
        rngs = {"dropout": self.make_rng("dropout")} if self.has_rng("dropout") else None
        model = self.model.clone(parent=None, name=None)  # in init, a parent cannot read what its child sows
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
    """Returns the Backbone of `model` with the selected maps; see `create_model`. `name` is for messages.

    Raises:
      UserError: `out_indices` or `taps` names a map that the model does not have, both are given, or it has no maps.
    """
    if taps is not None:
        if out_indices is not None:
            raise UserError(f"{name}: out_indices and taps both select the maps: leave one out")
        names, available = checked(f"{name}: taps", taps, tuple[str, ...]), layer_maps(model)
        for tap in names:
            if tap not in available:
                raise UserError(f"{name}: taps: no layer or stage {tap!r} has a feature map{did_you_mean(tap, available)}")
        return _of_maps(model, names, [available[tap] for tap in names])
    parts = stages(model)
    strided = parts if getattr(model, "output_stride", 32) == 32 else stages(model.clone(output_stride=32))
    deepest = {part.stride: parts[name] for name, part in strided.items() if name != "last"}  # last: before the head
    levels = [deepest[stride] for stride in sorted(deepest)]
    if not levels:
        raise UserError(f'{name} has no feature maps: it sows none into "intermediates"')
    if out_indices is None:
        indices = tuple(range(len(levels)))
    else:
        indices = checked(f"{name}: out_indices", out_indices, tuple[int, ...])
    if not indices or not all(-len(levels) <= index < len(levels) for index in indices):
        choices = ", ".join(f"{index} {part.name} (stride {part.stride})" for index, part in enumerate(levels))
        raise UserError(
            f"{name}: out_indices: expected indices among {choices}, or negative ones from the end; got {out_indices!r}"
        )
    chosen = [levels[index] for index in indices]
    return _of_maps(model, [part.name for part in chosen], chosen)


def _of_maps(model: nn.Module, names: Sequence[str], maps: Sequence[Part | Map]) -> Backbone:
    return Backbone(model, tuple(names), tuple(entry.stride for entry in maps), tuple(entry.channels for entry in maps))

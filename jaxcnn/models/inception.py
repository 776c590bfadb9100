"""The base classes of GoogLeNet and the Inception networks, with and without auxiliary heads."""

import abc
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import Branches, sequence
from jaxcnn.layers.branches import LayerSpecs
from jaxcnn.models.network import Network


class Inception(Network, kw_only=True):
    """Stem, inception modules in three stages, global average pool, dropout, linear head. Subclasses define `stages`."""

    count_padding: bool  # means of average pools include zero padding

    without = frozenset({"drop_path_rate"})
    stages: ClassVar[tuple[dict[str, tuple[LayerSpecs, ...]], ...]]  # for each stage, the branches of its modules by name

    @property
    def stem_specs(self) -> LayerSpecs:
        """The layers of the stem."""
        return ()

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = self.first_layers(images, conv, norm)
        self.sow("intermediates", "stem", x)
        for stage, modules in enumerate(self.stages, start=1):
            for name, branches in modules.items():
                x = self.run(Branches(branches, conv, norm, self.count_padding, name=name), x)
                self.after(name, x, train)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """Applies the stem: (N, H, W, C) -> (N, H', W', F)."""
        return sequence(images, self.stem_specs, prefix="stem_", conv=conv, norm=norm)

    def after(self, module: str, x: jax.Array, train: bool) -> None:
        """Called with the output of each module; auxiliary heads use it."""


class AuxiliaryInception(Inception):
    """An Inception network with auxiliary heads, as in torchvision.

    In training, with `aux_logits`, the auxiliary logits are sown in the collection "auxiliary", and the trainer adds their
    losses. With `transform_input`, images are normalized as for torchvision's other networks and converted by the network.
    """

    aux_logits: bool = True
    transform_input: bool = False

    heads: ClassVar[dict[str, str]]  # names of the auxiliary heads by the module whose output they use

    @abc.abstractmethod
    def auxiliary(self, train: bool, name: str) -> nn.Module:
        """Returns an auxiliary head (N, H, W, C) -> (N, num_classes) float32."""

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """Applies the stem: (N, H, W, C) -> (N, H', W', F)."""
        return super().first_layers(transformed(images) if self.transform_input else images, conv, norm)

    def computes_auxiliary(self, train: bool) -> bool:
        """Returns whether this call computes auxiliary logits. The heads' parameters are initialized in either mode."""
        requested = train and self.is_mutable_collection("auxiliary") and not self.is_initializing()
        return requested and self.aux_logits and self.num_classes > 0

    def after(self, module: str, x: jax.Array, train: bool) -> None:
        """Sows the auxiliary logits if the module has a head."""
        head, initial = self.heads.get(module), self.is_initializing() and self.aux_logits and self.num_classes > 0
        if head and (initial or self.computes_auxiliary(train)):
            logits = self.auxiliary(train, name=f"{head}_head")(x)
            if not initial:
                self.sow("auxiliary", head, logits)


def transformed(images: jax.Array) -> jax.Array:
    """Converts images normalized by ImageNet's mean and std to a mean and std of 0.5, for weights from TensorFlow."""
    if images.shape[-1] != 3:
        raise UserError(f"transform_input: expected images with 3 channels, got {images.shape[-1]}")
    mean, std = (jnp.asarray(v, images.dtype).reshape(1, 1, 1, 3) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images * std + mean - 0.5) / 0.5

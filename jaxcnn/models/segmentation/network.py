"""Base classes of networks for semantic segmentation: images (N, H, W, C) -> logits per pixel."""

import abc
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, uniform
from jaxcnn.models.features import Backbone
from jaxcnn.models.network import FAN_IN_UNIFORM, PYTORCH, Flavor, Network
from jaxcnn.models.registry import check_images, create_model
from jaxcnn.settings import Count


class SegmentationNetwork(Network, kw_only=True):
    """Images (N, H, W, C) float -> logits (N, H, W, num_classes) float32.

    `num_classes` includes the background if that is a class of the data set. The other attributes are those of `Network`. A
    family defines `scores` instead of `backbone`.
    """

    num_classes: Count = 21

    task: ClassVar = "segmentation"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H, W, num_classes) float32."""
        check_images(self, images, at_least=self.smallest)
        return resize_bilinear(self.scores(images, train=train), images.shape[1:3])

    @abc.abstractmethod
    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H', W', num_classes) float32, which are resized to H×W."""

    def encode(self, encoder: str, images: jax.Array, *, train: bool, **selection: Any) -> list[jax.Array]:
        """Images (N, H, W, C) -> maps of a classifier. `selection` has the arguments of create_model that select them."""
        arguments = {name: value for name in ("freeze_norm", "remat", "drop_path_rate") if (value := getattr(self, name))}
        arguments |= {"dtype": self.dtype} | {name: value for name, value in selection.items() if name != "taps"}
        maps = _selected_maps(encoder, selection.get("taps"), tuple(arguments.items()))
        model = create_model(encoder, num_classes=0, **arguments).clone(parent=None, name=None)  # Flax made it a child of self
        return Backbone(model, *maps, parent=self, name="backbone")(images, train=train)

    def per_pixel(self, x: jax.Array, name: str, size: int = 1) -> jax.Array:
        """A convolution: (N, H, W, F) -> logits (N, H, W, num_classes) float32."""
        bias_init = uniform((x.shape[-1] * size**2) ** -0.5)
        layer = conv(
            self.num_classes, size, use_bias=True, kernel_init=FAN_IN_UNIFORM, bias_init=bias_init, dtype=self.dtype, name=name
        )
        return layer(x).astype(jnp.float32)


class EncoderNetwork(SegmentationNetwork, kw_only=True):
    """A classifier's convolutions, dilated instead of strided, and heads per pixel, as torchvision builds them.

    Attributes:
      encoder: the name of the classifier, as in `list_models`.
      taps: the maps that the heads use, as layers or stages of the classifier; the main head uses the last one.
      output_stride: the height of the images divided by that of the last maps.
      aux_loss: an auxiliary head on the first of the maps. Its logits (N, H, W, num_classes) are sown in the collection
        "auxiliary", if that is mutable.
    """

    flavor: Flavor = PYTORCH  # of the heads
    encoder: str
    taps: tuple[str, ...]
    output_stride: Literal[8, 16]
    aux_loss: bool = False

    def encoded(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Images (N, H, W, C) -> the maps of the encoder at `taps`."""
        return self.encode(self.encoder, images, train=train, taps=self.taps, output_stride=self.output_stride)

    def fcn_head(self, x: jax.Array, name: str, *, drop_rate: float, train: bool) -> jax.Array:
        """A 3×3 convolution to a quarter of the channels and a 1×1 convolution: (N, H, W, F) -> (N, H, W, num_classes)."""
        conv, norm = self.layers(train)
        x = conv(x.shape[-1] // 4, 3, name=f"{name}_conv")(x)
        x = norm(name=f"{name}_norm", activation=nn.relu)(x)
        x = nn.Dropout(drop_rate, deterministic=not train)(x)
        return self.per_pixel(x, f"{name}_logits")

    def sow_auxiliary(self, x: jax.Array, size: Sequence[int], *, train: bool) -> None:
        """Sows the auxiliary head's logits (N, *size, num_classes), if they are requested."""
        requested = self.is_mutable_collection("auxiliary") and not self.is_initializing()
        if self.aux_loss and (requested or self.is_initializing()):
            logits = self.fcn_head(x, "aux", drop_rate=0.1, train=train)
            if requested:
                self.sow("auxiliary", "aux", resize_bilinear(logits, size))


@functools.lru_cache(maxsize=256)  # it traces the classifier twice, and training traces each network several times
def _selected_maps(
    encoder: str, taps: tuple[str, ...] | None, arguments: tuple[tuple[str, Any], ...]
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """Returns names, strides and channels of the maps that create_model(encoder, features_only=True, …) selects."""
    selected = create_model(encoder, features_only=True, taps=taps, **dict(arguments))
    return selected.names, selected.strides, selected.channels


def resize_bilinear(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Resizes maps (N, H, W, C) to (N, *size, C), as PyTorch's interpolate does with align_corners=False."""
    if x.shape[1:3] == tuple(size):
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)

"""DeepLabv3 and DeepLabv3+.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. 2017, arXiv:1706.05587. As in
torchvision, the dilation rates of the pyramid are 12, 24 and 36 for all output strides, and a 3×3 convolution follows it.

Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation. ECCV
2018, arXiv:1802.02611; figure 2, with plain convolutions.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.models.network import PYTORCH, Flavor
from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import EncoderNetwork, SegmentationNetwork, resize_bilinear
from jaxcnn.settings import Share


class AtrousPyramid(SegmentationNetwork, kw_only=True):
    """A network with an atrous spatial pyramid, followed by dropout with `drop_rate`."""

    drop_rate: Share = 0.5

    def unit(self, x: jax.Array, features: int, size: int, name: str, train: bool, dilation: int = 1) -> jax.Array:
        """A convolution, batch norm and ReLU: (N, H, W, F) -> (N, H, W, features)."""
        conv, norm = self.layers(train)
        x = conv(features, size, dilation=dilation, name=f"{name}_conv")(x)
        return norm(name=f"{name}_norm", activation=nn.relu)(x)

    def atrous_pyramid(self, x: jax.Array, rates: tuple[int, int, int], *, train: bool) -> jax.Array:
        """Figure 5: convolutions with several dilation rates, and the mean of the image: (N, H, W, F) -> (N, H, W, 256)."""
        branches = [self.unit(x, 256, 1, "pyramid1", train)]
        branches += [self.unit(x, 256, 3, f"pyramid{n}", train, rate) for n, rate in enumerate(rates, start=2)]
        mean = x.astype(jnp.float32).mean((1, 2), keepdims=True).astype(x.dtype)
        branches.append(jnp.broadcast_to(self.unit(mean, 256, 1, "pyramid5", train), branches[0].shape))
        x = self.unit(jnp.concatenate(branches, axis=-1), 256, 1, "project", train)
        return nn.Dropout(self.drop_rate, deterministic=not train)(x)


class DeepLabV3(EncoderNetwork, AtrousPyramid, kw_only=True):
    """A pyramid on the last maps of the encoder, and two convolutions."""

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/output_stride, W/output_stride, num_classes) float32."""
        earlier, x = self.encoded(images, train=train)
        self.sow_auxiliary(earlier, images.shape[1:3], train=train)
        x = self.atrous_pyramid(x, (12, 24, 36), train=train)
        return self.per_pixel(self.unit(x, 256, 3, "head", train), "head_logits")


class DeepLabV3Plus(AtrousPyramid, kw_only=True):
    """A pyramid on the last maps of the encoder, joined with its maps of stride 4.

    Attributes:
      encoder: the name of the classifier, as in `list_models`; one with the argument output_stride.
      output_stride: the height of the images divided by that of the encoder's last maps.
    """

    flavor: Flavor = PYTORCH
    encoder: str = "resnet50"
    output_stride: Literal[8, 16] = 16

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/4, W/4, num_classes) float32."""
        maps = self.encode(self.encoder, images, train=train, output_stride=self.output_stride)
        low = min(maps, key=lambda x: abs(4 * x.shape[1] - images.shape[1]))
        rates = (6, 12, 18) if self.output_stride == 16 else (12, 24, 36)
        x = resize_bilinear(self.atrous_pyramid(maps[-1], rates, train=train), low.shape[1:3])
        x = jnp.concatenate([x, self.unit(low, 48, 1, "low", train)], axis=-1)
        x = self.unit(self.unit(x, 256, 3, "decoder1", train), 256, 3, "decoder2", train)
        return self.per_pixel(x, "logits")


deeplab = partial(variant, module=DeepLabV3, image_size=520, paper="arXiv:1706.05587")
resnet = partial(deeplab, taps=("stage3", "stage4"), output_stride=8)
resnet("torchvision/deeplabv3_resnet50", encoder="resnet50")  # 39.6 M parameters, 42.0 M with the auxiliary head
resnet("torchvision/deeplabv3_resnet101", encoder="resnet101")  # 58.6 M, 61.0 M
deeplab(  # 11.0 M, with the auxiliary head too
    "torchvision/deeplabv3_mobilenet_v3_large",
    encoder="mobilenet_v3_large",
    taps=("stage3_block1/project_norm", "last_norm"),
    output_stride=16,
)
variant("deeplabv3_plus", DeepLabV3Plus, image_size=513, paper="arXiv:1802.02611")  # 40.3 M with ResNet-50

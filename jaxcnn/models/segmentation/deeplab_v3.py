"""DeepLabv3.

Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. 2017, arXiv:1706.05587. As in
torchvision, the dilation rates of the pyramid are 12, 24 and 36 for all output strides, and a 3×3 convolution follows it.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import EncoderNetwork
from jaxcnn.settings import Share


class DeepLabV3(EncoderNetwork, kw_only=True):
    """An atrous spatial pyramid, with dropout behind it, and two convolutions."""

    drop_rate: Share = 0.5

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/output_stride, W/output_stride, num_classes) float32."""
        earlier, x = self.encode(self.encoder, images, train=train, taps=self.taps, output_stride=self.output_stride)
        self.sow_auxiliary(earlier, images.shape[1:3], train=train)
        conv, norm = self.layers(train)
        x = self.atrous_pyramid(x, train=train)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        x = norm(name="head_norm", activation=nn.relu)(conv(256, 3, name="head_conv")(x))
        return self.per_pixel(x, "head_logits")

    def atrous_pyramid(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Figure 5: convolutions with several dilation rates, and the mean of the image: (N, H, W, F) -> (N, H, W, 256)."""
        conv, norm = self.layers(train)
        branches = [norm(name="pyramid1_norm", activation=nn.relu)(conv(256, 1, name="pyramid1_conv")(x))]
        for branch, rate in enumerate((12, 24, 36), start=2):
            y = conv(256, 3, dilation=rate, name=f"pyramid{branch}_conv")(x)
            branches.append(norm(name=f"pyramid{branch}_norm", activation=nn.relu)(y))
        mean = x.astype(jnp.float32).mean((1, 2), keepdims=True).astype(x.dtype)
        mean = norm(name="pyramid5_norm", activation=nn.relu)(conv(256, 1, name="pyramid5_conv")(mean))
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        y = conv(256, 1, name="project_conv")(jnp.concatenate(branches, axis=-1))
        return norm(name="project_norm", activation=nn.relu)(y)


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

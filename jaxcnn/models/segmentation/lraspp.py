"""Lite R-ASPP.

Howard et al.: Searching for MobileNetV3. ICCV 2019, arXiv:1905.02244; section 6.4 and figure 10. As in torchvision, the mean of
the whole image replaces the large pooling window.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import EncoderNetwork, resize_bilinear


class LRASPP(EncoderNetwork, kw_only=True):
    """Maps of the last stage, weighted per channel, and maps of stride 8, each with a 1×1 convolution."""

    inter_channels: int = 128
    without = EncoderNetwork.without | {"aux_loss", "drop_rate"}

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/8, W/8, num_classes) float32."""
        low, high = self.encoded(images, train=train)
        conv, norm = self.layers(train)
        x = norm(name="head_norm", activation=nn.relu)(conv(self.inter_channels, 1, name="head_conv")(high))
        mean = high.astype(jnp.float32).mean((1, 2), keepdims=True).astype(high.dtype)
        x = x * nn.sigmoid(conv(self.inter_channels, 1, name="scale_conv")(mean))
        x = resize_bilinear(x, low.shape[1:3])
        return self.per_pixel(low, "low_logits") + self.per_pixel(x, "high_logits")


variant(  # 3.2 M parameters
    "torchvision/lraspp_mobilenet_v3_large",
    LRASPP,
    encoder="mobilenet_v3_large",
    taps=("stage3_block1/project_norm", "last_norm"),
    output_stride=16,
    image_size=520,
    paper="arXiv:1905.02244",
)

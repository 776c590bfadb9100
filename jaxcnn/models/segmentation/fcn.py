"""Fully convolutional networks.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation. CVPR 2015, arXiv:1411.4038. In torchvision's
form, a ResNet whose last two stages are dilated replaces VGG, and bilinear upsampling by 8 replaces the skip connections.
"""

from functools import partial

import jax

from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import EncoderNetwork
from jaxcnn.settings import Share


class FCN(EncoderNetwork, kw_only=True):
    """A head of two convolutions, with dropout between them."""

    drop_rate: Share = 0.1

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/8, W/8, num_classes) float32."""
        earlier, x = self.encoded(images, train=train)
        self.sow_auxiliary(earlier, images.shape[1:3], train=train)
        return self.fcn_head(x, "head", drop_rate=self.drop_rate, train=train)


fcn = partial(variant, module=FCN, taps=("stage3", "stage4"), output_stride=8, image_size=520, paper="arXiv:1411.4038")
fcn("torchvision/fcn_resnet50", encoder="resnet50")  # 33.0 M parameters, 35.3 M with the auxiliary head
fcn("torchvision/fcn_resnet101", encoder="resnet101")  # 51.9 M, 54.3 M

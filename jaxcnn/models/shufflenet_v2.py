"""ShuffleNet V2.

Ma, Zhang, Zheng, Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design. ECCV 2018,
arXiv:1807.11164; figure 3 (c, d) and table 5. Initialized as in torchvision by PyTorch's default: uniform within
±1/sqrt(fan in).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import channel_shuffle
from jaxcnn.models.network import PYTORCH
from jaxcnn.models.registry import variant
from jaxcnn.models.shufflenet_v1 import ShuffleNet


class Block(nn.Module):
    """Splits the channels, applies 1×1, 3×3 depthwise and 1×1 to one half, concatenates the halves and shuffles channels.

    With stride 2 there is no split: both branches receive all channels, and the shortcut branch has convolutions too.
    """

    filters: int
    stride: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        half = self.filters // 2
        if self.stride == 1:
            shortcut, y = jnp.split(x, 2, axis=-1)
        else:
            shortcut = self.conv(x.shape[-1], 3, self.stride, groups=x.shape[-1], name="shortcut_depthwise")(x)
            shortcut = self.norm(name="shortcut_norm1")(shortcut)
            shortcut = self.conv(half, 1, name="shortcut_conv")(shortcut)
            shortcut = self.norm(name="shortcut_norm2", activation=nn.relu)(shortcut)
            y = x
        y = self.conv(half, 1, name="conv1")(y)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(half, 3, self.stride, groups=half, name="depthwise_conv")(y)
        y = self.norm(name="norm2")(y)
        y = self.conv(half, 1, name="conv2")(y)
        y = self.norm(name="norm3", activation=nn.relu)(y)
        return channel_shuffle(jnp.concatenate([shortcut, y], axis=-1), 2)


class ShuffleNetV2(ShuffleNet):
    """A ShuffleNet with the blocks of V2 and a 1×1 convolution before the pool."""

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        x = super().backbone(images, train=train)
        conv, norm = self.layers(train)
        return norm(name="norm5", activation=nn.relu)(conv(self.widths[4], 1, name="conv5")(x))


shufflenet_v2 = partial(variant, module=ShuffleNetV2, flavor=PYTORCH, block=Block, image_size=224, paper="arXiv:1807.11164")
shufflenet_v2("torchvision/shufflenet_v2_x0_5", widths=(24, 48, 96, 192, 1024))  # 1.4 M parameters
shufflenet_v2("torchvision/shufflenet_v2_x1_0", widths=(24, 116, 232, 464, 1024))  # 2.3 M
shufflenet_v2("torchvision/shufflenet_v2_x1_5", widths=(24, 176, 352, 704, 1024))  # 3.5 M
shufflenet_v2("torchvision/shufflenet_v2_x2_0", widths=(24, 244, 488, 976, 2048))  # 7.4 M

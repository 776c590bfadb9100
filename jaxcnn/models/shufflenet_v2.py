"""ShuffleNet V2.

Ma, Zhang, Zheng, Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design. ECCV 2018,
arXiv:1807.11164; figure 3 (c, d) and table 5. The channels of stage 4 at 2.0× are 976 as in the paper, and all weights
start uniform within ±1/sqrt(fan in) (PyTorch's default), as torchvision's.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import channel_shuffle, max_pool
from jaxcnn.models.network import PYTORCH, Network
from jaxcnn.models.registry import variant

DEPTHS = (4, 8, 4)  # blocks in stages 2 to 4


class Block(nn.Module):
    """Half of the channels go through 1×1, 3×3 depthwise, 1×1, the others past them; then both are shuffled.

    With a stride all channels go through both branches, each with a depthwise convolution, and their number changes.
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
            past, y = jnp.split(x, 2, axis=-1)
        else:
            past = self.conv(x.shape[-1], 3, self.stride, groups=x.shape[-1], name="shortcut_depthwise")(x)
            past = self.norm(name="shortcut_norm1")(past)
            past = self.conv(half, 1, name="shortcut_conv")(past)
            past = self.norm(name="shortcut_norm2", activation=nn.relu)(past)
            y = x
        y = self.conv(half, 1, name="conv1")(y)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(half, 3, self.stride, groups=half, name="depthwise_conv")(y)
        y = self.norm(name="norm2")(y)
        y = self.conv(half, 1, name="conv2")(y)
        y = self.norm(name="norm3", activation=nn.relu)(y)
        return channel_shuffle(jnp.concatenate([past, y], axis=-1), 2)


class ShuffleNetV2(Network, kw_only=True):
    """Stem, three stages of blocks, 1×1 convolution, global average pool, linear head; "stage1" is the pooled stem."""

    widths: tuple[int, int, int, int]  # channels of stages 2 to 4 and of the last convolution

    without: ClassVar = frozenset({"drop_path_rate"})

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = conv(24, 3, 2, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)
        x = max_pool(x, 3, 2, padding=1)
        self.sow("intermediates", "stage1", x)

        for stage, (depth, filters) in enumerate(zip(DEPTHS, self.widths[:3], strict=True), start=2):
            for index in range(1, depth + 1):
                stride = 2 if index == 1 else 1
                x = self.run(Block(filters, stride, conv, norm, name=f"stage{stage}_block{index}"), x)
            self.sow("intermediates", f"stage{stage}", x)

        x = conv(self.widths[3], 1, name="conv5")(x)
        return norm(name="norm5", activation=nn.relu)(x)


shufflenet_v2 = partial(variant, module=ShuffleNetV2, flavour=PYTORCH, image_size=224, paper="arXiv:1807.11164")
shufflenet_v2("torchvision/shufflenet_v2_x0_5", widths=(48, 96, 192, 1024))  # 1.4 M parameters
shufflenet_v2("torchvision/shufflenet_v2_x1_0", widths=(116, 232, 464, 1024))  # 2.3 M
shufflenet_v2("torchvision/shufflenet_v2_x1_5", widths=(176, 352, 704, 1024))  # 3.5 M
shufflenet_v2("torchvision/shufflenet_v2_x2_0", widths=(244, 488, 976, 2048))  # 7.4 M

"""ShuffleNet.

Zhang, Zhou, Lin, Sun: ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices. CVPR 2018,
arXiv:1707.01083; figure 2 and table 1. A scale of s× multiplies the channels of all convolutions, including the stem.
Convolutions are initialized by He et al. (fan out), the head as PyTorch's nn.Linear; the paper does not specify it.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import average_pool, channel_shuffle, max_pool, relu
from jaxcnn.models.network import TORCHVISION, Network
from jaxcnn.models.registry import variant

DEPTHS = (4, 8, 4)  # blocks in stages 2 to 4


class Block(nn.Module):
    """Grouped 1×1 reduction to a quarter, channel shuffle, 3×3 depthwise, grouped 1×1 expansion, and a shortcut.

    With stride 2 the shortcut is a 3×3 average pool, which is concatenated instead of added.
    """

    filters: int
    stride: int
    conv: Callable
    norm: Callable
    groups: int

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        narrow = self.filters // 4
        outputs = self.filters if self.stride == 1 else self.filters - x.shape[-1]
        groups = self.groups if 2 * x.shape[-1] >= self.filters else 1  # not for the stem's few channels
        y = self.conv(narrow, 1, groups=groups, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = channel_shuffle(y, self.groups)
        y = self.conv(narrow, 3, self.stride, groups=narrow, name="depthwise_conv")(y)
        y = self.norm(name="norm2")(y)
        y = self.conv(outputs, 1, groups=self.groups, name="conv2")(y)
        y = self.norm(name="norm3")(y)
        if self.stride == 1:
            return relu(x + y)
        return nn.relu(jnp.concatenate([average_pool(x, 3, self.stride, padding=1), y], axis=-1))


class ShuffleNet(Network, kw_only=True):
    """Stem, three stages of blocks, global average pool, linear head. The feature map "stage1" is the pooled stem."""

    block: Callable[..., nn.Module]
    widths: tuple[int, ...]  # channels of the stem and of stages 2 to 4

    without = frozenset({"drop_path_rate"})

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = conv(self.widths[0], 3, 2, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)
        x = max_pool(x, 3, 2, padding=1)
        self.sow("intermediates", "stage1", x)

        for stage, (depth, filters) in enumerate(zip(DEPTHS, self.widths[1:4], strict=True), start=2):
            for index in range(1, depth + 1):
                block = self.block(filters, 2 if index == 1 else 1, conv, norm, name=f"stage{stage}_block{index}")
                x = self.run(block, x)
            self.sow("intermediates", f"stage{stage}", x)
        return x


def shufflenet_v1(name: str, groups: int, scale: float = 1.0) -> None:
    """Declares a variant. Widths depend on groups such that the number of operations is about the same (table 1)."""
    width = int({1: 144, 2: 200, 3: 240, 4: 272, 8: 384}[groups] * scale)
    widths, block = (int(24 * scale), width, 2 * width, 4 * width), partial(Block, groups=groups)
    variant(name, ShuffleNet, flavor=TORCHVISION, block=block, widths=widths, image_size=224, paper="arXiv:1707.01083")


shufflenet_v1("shufflenet_v1_g1", 1)  # 1.5 M parameters
shufflenet_v1("shufflenet_v1_g2", 2)  # 1.7 M
shufflenet_v1("shufflenet_v1_g3", 3)  # 1.9 M
shufflenet_v1("shufflenet_v1_g4", 4)  # 2.0 M
shufflenet_v1("shufflenet_v1_g8", 8)  # 2.4 M
shufflenet_v1("shufflenet_v1_g1_x0_25", 1, 0.25)  # 0.2 M
shufflenet_v1("shufflenet_v1_g1_x0_5", 1, 0.5)  # 0.5 M
shufflenet_v1("shufflenet_v1_g3_x0_25", 3, 0.25)  # 0.3 M
shufflenet_v1("shufflenet_v1_g3_x0_5", 3, 0.5)  # 0.7 M
shufflenet_v1("shufflenet_v1_g3_x1_5", 3, 1.5)  # 3.4 M
shufflenet_v1("shufflenet_v1_g3_x2_0", 3, 2.0)  # 5.4 M

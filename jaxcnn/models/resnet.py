"""Residual networks.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385; figure 5 and table 1.
A bottleneck strides in its 3×3 convolution (torchvision's "v1.5"), not in its first 1×1 as the paper does.
Initialised as torchvision does: convolutions by He et al. (fan out), the head uniform.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, conv, global_average_pool, linear, max_pool
from jaxcnn.models.registry import check_images, variant


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut around them."""

    filters: int
    stride: int
    zero_init_last: bool
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        y = self.conv(self.filters, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = self.norm(name="norm2", scale_init=_last_scale(self.zero_init_last))(y)
        return nn.relu(y + _shortcut(self, x, self.filters))


class Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand, and the shortcut around them."""

    filters: int
    stride: int
    zero_init_last: bool
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, 4·filters)."""
        y = self.conv(self.filters, 1, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.filters, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(name="norm2")(y))
        y = self.conv(4 * self.filters, 1, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=_last_scale(self.zero_init_last))(y)
        return nn.relu(y + _shortcut(self, x, 4 * self.filters))


def _last_scale(zero_init_last: bool) -> jax.nn.initializers.Initializer:
    return nn.initializers.zeros if zero_init_last else nn.initializers.ones


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, features: int) -> jax.Array:
    """The identity, or a projection where the size or the number of channels changes (the paper's option B)."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    return block.norm(name="shortcut_norm")(block.conv(features, 1, block.stride, name="shortcut_conv")(x))


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average pool, linear head.

    The "small" stem, a 3×3 convolution without stride and no pooling, is for images of about 32×32, which the ImageNet
    stem would shrink to 8×8 before the first stage. `zero_init_last` starts every block as its shortcut, by a zero
    scale in its last norm (Goyal et al., arXiv:1706.02677); off by default, as in torchvision. `freeze_norm` uses the
    running statistics in training too, and keeps them.
    """

    depths: tuple[int, ...]  # blocks in each stage
    block: type[BasicBlock] | type[Bottleneck]
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    zero_init_last: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images)
        convolution = partial(conv, dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)

        if self.stem == "imagenet":
            x = convolution(64, 7, 2, name="stem_conv")(images)
        else:
            x = convolution(64, 3, name="stem_conv")(images)
        x = nn.relu(norm(name="stem_norm")(x))
        self.sow("intermediates", "stem", x)
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, padding=1)

        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                x = self.block(
                    filters=64 * 2 ** (stage - 1),
                    stride=2 if stage > 1 and index == 1 else 1,
                    zero_init_last=self.zero_init_last,
                    conv=convolution,
                    norm=norm,
                    name=f"stage{stage}_block{index}",
                )(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        return linear(x.shape[-1], self.num_classes, name="head")(x)


variant("torchvision/resnet18", ResNet, depths=(2, 2, 2, 2), block=BasicBlock)  # 11.7 M parameters
variant("torchvision/resnet34", ResNet, depths=(3, 4, 6, 3), block=BasicBlock)  # 21.8 M
variant("torchvision/resnet50", ResNet, depths=(3, 4, 6, 3), block=Bottleneck)  # 25.6 M
variant("torchvision/resnet101", ResNet, depths=(3, 4, 23, 3), block=Bottleneck)  # 44.5 M
variant("torchvision/resnet152", ResNet, depths=(3, 8, 36, 3), block=Bottleneck)  # 60.2 M

"""Residual networks, ResNeXt, Wide ResNet.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385; figure 5 and table 1.
Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks. CVPR 2017,
arXiv:1611.05431; figure 3(c), tables 1 and 7.
Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv:1605.07146; section 3.4 (the bottlenecks twice as wide).

A bottleneck strides in its 3×3 convolution (torchvision's "v1.5"); in its first 1×1, as the paper does, in `resnet50_v1`.
Initialised as torchvision does: convolutions by He et al. (fan out), the head uniform.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import (
    BatchNorm,
    StochasticDepth,
    average_pool,
    blur_pool,
    conv,
    global_average_pool,
    linear,
    max_pool,
    relu,
)
from jaxcnn.models.registry import check_images, variant


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and the shortcut around them."""

    filters: int
    stride: int
    drop_rate: float  # of stochastic depth; 0 in evaluation
    zero_init_last: bool
    conv: Callable
    norm: Callable
    average_shortcut: bool = False
    blur: bool = False
    attention: Callable | None = None

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        y = self.conv(self.filters, 3, 1 if self.blur else self.stride, name="conv1")(x)
        y = _blur(self, self.norm(name="norm1", activation=nn.relu)(y))
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = self.norm(name="norm2", scale_init=_last_scale(self))(y)
        return _add(self, x, y)


class Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand, and the shortcut around them; the 3×3 in `groups` of filters · width_per_group / 64."""

    filters: int
    stride: int
    drop_rate: float  # of stochastic depth; 0 in evaluation
    zero_init_last: bool
    conv: Callable
    norm: Callable
    groups: int = 1
    width_per_group: int = 64
    stride_first: bool = False
    average_shortcut: bool = False
    blur: bool = False
    attention: Callable | None = None

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, 4·filters)."""
        width = self.filters * self.width_per_group // 64 * self.groups
        first, second = (self.stride, 1) if self.stride_first else (1, 1 if self.blur else self.stride)
        y = self.conv(width, 1, first, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(width, 3, second, groups=self.groups, name="conv2")(y)
        y = _blur(self, self.norm(name="norm2", activation=nn.relu)(y))
        y = self.conv(4 * self.filters, 1, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=_last_scale(self))(y)
        return _add(self, x, y)


Block = BasicBlock | Bottleneck


def _last_scale(block: Block) -> jax.nn.initializers.Initializer:
    return nn.initializers.zeros if block.zero_init_last else nn.initializers.ones


def _blur(block: Block, y: jax.Array) -> jax.Array:
    """Where the block is antialiased, its stride is that of a blur."""
    return blur_pool(y, block.stride) if block.blur and block.stride > 1 else y


def _add(block: Block, x: jax.Array, y: jax.Array) -> jax.Array:
    """The branch, with its attention, on the shortcut."""
    if block.attention is not None:
        y = block.attention(y.shape[-1], norm=block.norm, dtype=y.dtype, name="attention")(y)
    y = StochasticDepth(block.drop_rate)(y, train=True)
    return relu(y + _shortcut(block, x, y.shape[-1]))


def _shortcut(block: Block, x: jax.Array, features: int) -> jax.Array:
    """The identity, or a projection where the size or the number of channels changes (the paper's option B)."""
    stride = block.stride
    if stride == 1 and x.shape[-1] == features:
        return x
    if block.average_shortcut and stride > 1:
        x, stride = average_pool(x, stride, stride, ceil_mode=True, count_padding=False), 1
    return block.norm(name="shortcut_norm")(block.conv(features, 1, stride, name="shortcut_conv")(x))


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool, linear head.

    The "small" stem, a 3×3 convolution without stride and no pooling, is for images of about 32×32, which the ImageNet
    stem would shrink to 8×8 before the first stage. `zero_init_last` starts every block as its shortcut, by a zero
    scale in its last norm (Goyal et al., arXiv:1706.02677); off by default, as in torchvision. `stochastic_depth_prob`
    is the rate at which the last block is dropped in training; it grows linearly with depth (Huang et al.,
    arXiv:1603.09382, equation 4; here by image). `remat` computes a block's activations again in the backward pass and
    stores only what goes from block to block. `freeze_norm` uses the running statistics in training too, and keeps them.
    """

    depths: tuple[int, ...]  # blocks in each stage
    block: Callable[..., Block]
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    zero_init_last: bool = False
    stochastic_depth_prob: float = 0.0
    remat: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images)
        convolution, norm = self.layers(train)
        x = self.first_layers(images, convolution, norm)

        run = nn.remat(_run) if self.remat else _run
        blocks = 0
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                blocks += 1
                block = self.block(
                    filters=64 * 2 ** (stage - 1),
                    stride=2 if stage > 1 and index == 1 else 1,
                    drop_rate=self.stochastic_depth_prob * blocks / sum(self.depths) if train else 0.0,
                    zero_init_last=self.zero_init_last,
                    conv=convolution,
                    norm=norm,
                    name=f"stage{stage}_block{index}",
                )
                x = run(block, x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        return x if self.num_classes == 0 else self.classifier(x)

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        return partial(conv, dtype=self.dtype), norm

    def first_layers(self, images: jax.Array, convolution: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/4, W/4, 64), or (N, H, W, 64) with the small stem."""
        if self.stem == "imagenet":
            x = convolution(64, 7, 2, name="stem_conv")(images)
        else:
            x = convolution(64, 3, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)
        return self.stem_pool(x) if self.stem == "imagenet" else x

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return max_pool(x, 3, 2, padding=1)

    def classifier(self, x: jax.Array) -> jax.Array:
        """(N, features) -> (N, num_classes)."""
        return linear(x.shape[-1], self.num_classes, name="head")(x)


def _run(block: Block, x: jax.Array) -> jax.Array:
    return block(x)


resnet = partial(variant, image_size=224, paper="arXiv:1512.03385")
resnet("torchvision/resnet18", ResNet, depths=(2, 2, 2, 2), block=BasicBlock)  # 11.7 M parameters
resnet("torchvision/resnet34", ResNet, depths=(3, 4, 6, 3), block=BasicBlock)  # 21.8 M
resnet("torchvision/resnet50", ResNet, depths=(3, 4, 6, 3), block=Bottleneck)  # 25.6 M
resnet("torchvision/resnet101", ResNet, depths=(3, 4, 23, 3), block=Bottleneck)  # 44.5 M
resnet("torchvision/resnet152", ResNet, depths=(3, 8, 36, 3), block=Bottleneck)  # 60.2 M

v1 = partial(Bottleneck, stride_first=True)
resnet("resnet50_v1", ResNet, depths=(3, 4, 6, 3), block=v1)
resnet("resnet101_v1", ResNet, depths=(3, 4, 23, 3), block=v1)
resnet("resnet152_v1", ResNet, depths=(3, 8, 36, 3), block=v1)

x32x4d = partial(Bottleneck, groups=32, width_per_group=4)
x32x8d = partial(Bottleneck, groups=32, width_per_group=8)
x64x4d = partial(Bottleneck, groups=64, width_per_group=4)
resnext = partial(variant, image_size=224, paper="arXiv:1611.05431")
resnext("torchvision/resnext50_32x4d", ResNet, depths=(3, 4, 6, 3), block=x32x4d)  # 25.0 M
resnext("torchvision/resnext101_32x8d", ResNet, depths=(3, 4, 23, 3), block=x32x8d)  # 88.8 M
resnext("torchvision/resnext101_64x4d", ResNet, depths=(3, 4, 23, 3), block=x64x4d)  # 83.5 M

wide = partial(Bottleneck, width_per_group=128)
wide_resnet = partial(variant, image_size=224, paper="arXiv:1605.07146")
wide_resnet("torchvision/wide_resnet50_2", ResNet, depths=(3, 4, 6, 3), block=wide)  # 68.9 M
wide_resnet("torchvision/wide_resnet101_2", ResNet, depths=(3, 4, 23, 3), block=wide)  # 126.9 M

resnext_cifar = partial(variant, image_size=32, paper="arXiv:1611.05431", depths=(3, 3, 3), stem="small", num_classes=10)
resnext_cifar("resnext29_8x64d", ResNet, block=partial(Bottleneck, groups=8, width_per_group=64))  # 34.4 M
resnext_cifar("resnext29_16x64d", ResNet, block=partial(Bottleneck, groups=16, width_per_group=64))  # 68.1 M

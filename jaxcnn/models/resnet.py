"""Residual networks, ResNeXt, Wide ResNet.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385; figure 5 and table 1.
Xie, Girshick, Dollár, Tu, He: Aggregated Residual Transformations for Deep Neural Networks. CVPR 2017,
arXiv:1611.05431; figure 3(c), tables 1 and 7.
Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv:1605.07146; section 3.4: bottlenecks with twice the width.

The 3×3 convolution of a bottleneck carries the stride (torchvision's "v1.5"). In `resnet50_v1` and in Keras's variants the
first 1×1 convolution carries it, as in the paper. Keras's convolutions have biases.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import StochasticDepth, average_pool, blur_pool, max_pool, relu
from jaxcnn.models.network import KERAS, TORCHVISION, Network, Striding, stridings
from jaxcnn.models.registry import variant


class ResidualBlock(nn.Module):
    """The base class of the blocks: shortcut, attention and antialiasing. Subclasses define the convolutions."""

    filters: int
    striding: Striding
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    last_scale: jax.nn.initializers.Initializer  # scale of the last norm, before the shortcut is added
    conv: Callable
    norm: Callable
    average_shortcut: bool = False  # average pooling before the projection (ResNet-D)
    blur: bool = False  # a blur pool carries the stride, against aliasing
    attention: Callable | None = None

    def blurred(self, y: jax.Array) -> jax.Array:
        """Applies the blur pool of an antialiased block: (N, H, W, C) -> (N, H/stride, W/stride, C).

        It also blurs if dilation replaces the stride.
        """
        stride, first_dilation, dilation = self.striding
        return blur_pool(y, stride) if self.blur and (stride > 1 or first_dilation < dilation) else y

    def attended(self, y: jax.Array) -> jax.Array:
        """Applies the attention module to the branch, if there is one."""
        if self.attention is None:
            return y
        return self.attention(y.shape[-1], norm=self.norm, dtype=y.dtype, name="attention")(y)

    def shortcut(self, x: jax.Array, features: int) -> jax.Array:
        """Returns x, or its projection if the size or the number of channels changes (option B in the paper)."""
        stride = self.striding.stride
        if stride == 1 and x.shape[-1] == features:
            return x
        if self.average_shortcut:
            x, stride = averaged(x, self.striding), 1
        return self.norm(name="shortcut_norm")(self.conv(features, 1, stride, name="shortcut_conv")(x))


def averaged(x: jax.Array, striding: Striding) -> jax.Array:
    """Average pooling before the projection in a ResNet-D shortcut: (N, H, W, C) -> (N, H/stride, W/stride, C).

    If dilation replaces the stride, windows of 2×2 have stride 1, with zeros at the bottom and right edges as in timm.
    """
    if striding.stride > 1:
        return average_pool(x, striding.stride, striding.stride, ceil_mode=True, count_padding=False)
    if striding.dilation > 1:
        return average_pool(jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), 2, 1)
    return x


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions and a shortcut."""

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        stride, first_dilation, dilation = self.striding
        y = self.conv(self.filters, 3, 1 if self.blur else stride, dilation=first_dilation, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(self.filters, 3, dilation=dilation, name="conv2")(self.blurred(y))
        y = self.norm(name="norm2", scale_init=self.last_scale)(y)
        y = StochasticDepth(self.drop_rate)(self.attended(y), train=True)
        return relu(y + self.shortcut(x, self.filters))


class Bottleneck(ResidualBlock):
    """1×1 reduction, 3×3 in `groups` of filters · width_per_group / 64 channels, 1×1 expansion, and a shortcut."""

    groups: int = 1
    width_per_group: int = 64
    stride_first: bool = False  # the first 1×1 carries the stride

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, 4·filters)."""
        stride, dilation, _ = self.striding
        width = self.filters * self.width_per_group // 64 * self.groups
        first, second = (stride, 1) if self.stride_first else (1, 1 if self.blur else stride)
        y = self.conv(width, 1, first, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(width, 3, second, groups=self.groups, dilation=dilation, name="conv2")(y)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        y = self.conv(4 * self.filters, 1, name="conv3")(self.blurred(y))
        y = self.norm(name="norm3", scale_init=self.last_scale)(y)
        y = StochasticDepth(self.drop_rate)(self.attended(y), train=True)
        return relu(y + self.shortcut(x, 4 * self.filters))


class ResNet(Network, kw_only=True):
    """Stem, stages of residual blocks, global average pool, linear head.

    The "small" stem, a 3×3 convolution with stride 1 and no pooling, is for images of about 32×32, which the ImageNet stem
    would reduce to 8×8 before the first stage. `zero_init_last` initializes the scale of each block's last norm to zero, so
    that a block initially equals its shortcut (Goyal et al., arXiv:1706.02677); off by default, as in torchvision.
    `output_stride` limits the stride of the network: the last stages are dilated instead.
    """

    depths: tuple[int, ...]  # blocks in each stage
    block: Callable[..., ResidualBlock]
    stem: Literal["imagenet", "small"] = "imagenet"
    zero_init_last: bool = False
    output_stride: Literal[8, 16, 32] = 32

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = self.first_layers(images, conv, norm)
        self.sow("intermediates", "stem", x)
        if self.stem == "imagenet":
            x = self.stem_pool(x)

        strides = (4 if self.stem == "imagenet" else 1, *[2] * (len(self.depths) - 1))
        stages = zip(self.depths, stridings(self, strides, self.output_stride), strict=True)
        blocks = 0
        for stage, (depth, striding) in enumerate(stages, start=1):
            for index in range(1, depth + 1):
                blocks += 1
                block = self.block(
                    filters=64 * 2 ** (stage - 1),
                    striding=striding if index == 1 and stage > 1 else Striding(1, striding.dilation, striding.dilation),
                    drop_rate=self.drop_path_rate * blocks / sum(self.depths) if train else 0.0,
                    last_scale=nn.initializers.zeros if self.zero_init_last else nn.initializers.ones,
                    conv=conv,
                    norm=norm,
                    name=f"stage{stage}_block{index}",
                )
                x = self.run(block, x)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """The stem up to its ReLU: (N, H, W, C) -> (N, H/2, W/2, 64), or (N, H, W, 64) with the small stem."""
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        return norm(name="stem_norm", activation=nn.relu)(conv(64, size, stride, name="stem_conv")(images))

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """The max pool of the ImageNet stem: (N, H, W, C) -> (N, H/2, W/2, C)."""
        return max_pool(x, 3, 2, padding=1)


resnet = partial(variant, module=ResNet, flavor=TORCHVISION, image_size=224, paper="arXiv:1512.03385")
resnet("torchvision/resnet18", depths=(2, 2, 2, 2), block=BasicBlock)  # 11.7 M parameters
resnet("torchvision/resnet34", depths=(3, 4, 6, 3), block=BasicBlock)  # 21.8 M
resnet("torchvision/resnet50", depths=(3, 4, 6, 3), block=Bottleneck)  # 25.6 M
resnet("torchvision/resnet101", depths=(3, 4, 23, 3), block=Bottleneck)  # 44.5 M
resnet("torchvision/resnet152", depths=(3, 8, 36, 3), block=Bottleneck)  # 60.2 M

v1 = partial(Bottleneck, stride_first=True)
resnet("resnet50_v1", depths=(3, 4, 6, 3), block=v1)
resnet("resnet101_v1", depths=(3, 4, 23, 3), block=v1)
resnet("resnet152_v1", depths=(3, 8, 36, 3), block=v1)

KERAS_RESNET = KERAS._replace(epsilon=1.001e-5)  # for ResNet and ResNet V2
keras = partial(resnet, flavor=KERAS_RESNET._replace(conv_bias=True), block=v1)
keras("keras/ResNet50", depths=(3, 4, 6, 3))  # 25.6 M
keras("keras/ResNet101", depths=(3, 4, 23, 3))  # 44.6 M
keras("keras/ResNet152", depths=(3, 8, 36, 3))  # 60.3 M

x32x4d = partial(Bottleneck, groups=32, width_per_group=4)
x32x8d = partial(Bottleneck, groups=32, width_per_group=8)
x64x4d = partial(Bottleneck, groups=64, width_per_group=4)
resnext = partial(resnet, paper="arXiv:1611.05431")
resnext("torchvision/resnext50_32x4d", depths=(3, 4, 6, 3), block=x32x4d)  # 25.0 M
resnext("torchvision/resnext101_32x8d", depths=(3, 4, 23, 3), block=x32x8d)  # 88.8 M
resnext("torchvision/resnext101_64x4d", depths=(3, 4, 23, 3), block=x64x4d)  # 83.5 M

wide = partial(Bottleneck, width_per_group=128)
wide_resnet = partial(resnet, block=wide, paper="arXiv:1605.07146")
wide_resnet("torchvision/wide_resnet50_2", depths=(3, 4, 6, 3))  # 68.9 M
wide_resnet("torchvision/wide_resnet101_2", depths=(3, 4, 23, 3))  # 126.9 M

resnext_cifar = partial(resnext, image_size=32, depths=(3, 3, 3), stem="small", num_classes=10)
resnext_cifar("resnext29_8x64d", block=partial(Bottleneck, groups=8, width_per_group=64))  # 34.4 M
resnext_cifar("resnext29_16x64d", block=partial(Bottleneck, groups=16, width_per_group=64))  # 68.1 M

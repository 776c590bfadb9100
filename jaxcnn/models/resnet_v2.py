"""Pre-activation residual networks (ResNet V2) of the paper and of Keras.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027; figure 4(e), table 5 and the
appendix. Norm and ReLU precede each convolution, so that shortcuts form an identity path through a stage. The stem is
followed by norm and ReLU before the first block, and so is the last block. A projection shortcut receives the output of its
block's first norm and ReLU.

In the paper's networks the first 1×1 convolution in the first block of a stage carries the stride, as in the authors' code.
In Keras's, the 3×3 convolution in the last block of a stage carries it, and the shortcut takes every second pixel. Keras's
first block has a separate norm, its max pool includes zeros around the stem's output, and some convolutions have biases.
Initialized by He et al. (fan out) as torchvision's ResNets; Keras's by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import StochasticDepth, max_pool
from jaxcnn.models.network import TORCHVISION, Network, Striding, stridings
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet import KERAS_RESNET, averaged


class PreActBottleneck(nn.Module):
    """1×1 reduction, 3×3, 1×1 expansion, each after norm and ReLU, and a shortcut."""

    filters: int
    striding: Striding
    drop_rate: float | jax.Array  # rate of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable
    activated: bool = False  # the input has passed norm and ReLU already
    stride_first: bool = False
    average_shortcut: bool = False
    use_bias: bool = False  # in the convolutions before the addition, as in Keras

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, 4·filters)."""
        stride, dilation, _ = self.striding
        first, second = (stride, 1) if self.stride_first else (1, stride)
        activated = x if self.activated else self.norm(name="norm1", activation=nn.relu)(x)
        y = self.conv(self.filters, 1, first, name="conv1")(activated)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        y = self.conv(self.filters, 3, second, dilation=dilation, name="conv2")(y)
        y = self.norm(name="norm3", activation=nn.relu)(y)
        y = self.conv(4 * self.filters, 1, use_bias=self.use_bias, name="conv3")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + self.shortcut(x, activated)

    def shortcut(self, x, activated):
        """Returns every stride-th pixel of x, or a projection if the number of channels changes."""
        stride = self.striding.stride
        if x.shape[-1] == 4 * self.filters:
            return x[:, ::stride, ::stride]
        if self.average_shortcut:
            activated, stride = averaged(activated, self.striding), 1
        return self.conv(4 * self.filters, 1, stride, use_bias=self.use_bias, name="shortcut_conv")(activated)


class ResNetV2(Network, kw_only=True):
    """Stem, four stages of pre-activation blocks, norm and ReLU, global average pool, linear head.

    `stem` and `output_stride` are as in ResNet. The feature map `stage4` is the output of the last norm and ReLU.
    """

    depths: tuple[int, ...]  # blocks in each stage
    block: Callable[..., PreActBottleneck]
    width: int  # channels of the stem; blocks of the first stage have 4 times as many
    stem: Literal["imagenet", "small"] = "imagenet"
    output_stride: Literal[8, 16, 32] = 32

    stem_norm: ClassVar[bool] = True  # the stem is followed by norm and ReLU
    stride_last: ClassVar[bool] = False  # the last block of a stage carries the stride, except in the last stage

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = self.first_layers(images, conv, norm)
        x = norm(name="stem_norm", activation=nn.relu)(x) if self.stem_norm else x
        self.sow("intermediates", "stem", x)
        if self.stem == "imagenet":
            x = self.stem_pool(x)

        halved = [2] * (len(self.depths) - 1)
        strides = (4 if self.stem == "imagenet" else 1, *([*halved, 1] if self.stride_last else [1, *halved]))
        stages = zip(self.depths, stridings(self, strides, self.output_stride)[1:], strict=True)
        blocks, dilation = 0, 1
        for stage, (depth, striding) in enumerate(stages, start=1):
            for index in range(1, depth + 1):
                blocks += 1
                has_stride = index == (depth if self.stride_last else 1)
                block = self.block(
                    filters=self.width * 2 ** (stage - 1),
                    striding=striding if has_stride else Striding(1, dilation, dilation),
                    drop_rate=self.drop_path_rate * blocks / sum(self.depths) if train else 0.0,
                    conv=conv,
                    norm=norm,
                    activated=self.stem_norm and blocks == 1,
                    name=f"stage{stage}_block{index}",
                )
                x = self.run(block, x)
                dilation = striding.dilation if has_stride else dilation
            if stage == len(self.depths):
                x = norm(name="head_norm", activation=nn.relu)(x)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """The stem's convolution: (N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        return conv(self.width, size, stride, name="stem_conv")(images)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """The max pool of the ImageNet stem: (N, H, W, C) -> (N, H/2, W/2, C)."""
        return max_pool(x, 3, 2, padding=1)


class KerasResNetV2(ResNetV2):
    """Keras's form: see the head of this file."""

    stem_norm = False
    stride_last = True

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """The stem's convolution: (N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        return super().first_layers(images, partial(conv, use_bias=True), norm)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """The max pool of the ImageNet stem: (N, H, W, C) -> (N, H/2, W/2, C)."""
        return zero_padded_max_pool(x)


def zero_padded_max_pool(x: jax.Array) -> jax.Array:
    """Max pooling of 3×3 windows with stride 2 and zero padding: (N, H, W, C) -> (N, H/2, W/2, C)."""
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


resnet_v2 = partial(variant, flavor=TORCHVISION, width=64, image_size=224, paper="arXiv:1603.05027")
paper = partial(resnet_v2, module=ResNetV2, block=partial(PreActBottleneck, stride_first=True))
paper("resnet50_v2", depths=(3, 4, 6, 3))  # 25.5 M parameters
paper("resnet101_v2", depths=(3, 4, 23, 3))  # 44.5 M
paper("resnet152_v2", depths=(3, 8, 36, 3))  # 60.2 M
paper("resnet200_v2", depths=(3, 24, 36, 3))  # 64.7 M

keras = partial(resnet_v2, module=KerasResNetV2, flavor=KERAS_RESNET, block=partial(PreActBottleneck, use_bias=True))
keras("keras/ResNet50V2", depths=(3, 4, 6, 3))  # 25.6 M
keras("keras/ResNet101V2", depths=(3, 4, 23, 3))  # 44.6 M
keras("keras/ResNet152V2", depths=(3, 8, 36, 3))  # 60.2 M

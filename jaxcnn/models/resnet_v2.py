"""Pre-activation residual networks (ResNet v2): the paper's and Keras's.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027; figure 4(e), table 5 and the
appendix: norm and ReLU stand before each convolution, so nothing is between one shortcut and the next. The first norm and
ReLU stand right after the stem, before the first split; others follow the last block. A projected shortcut shares its
block's first norm and ReLU.

The paper's strides in a bottleneck's first 1×1, as its authors' code does, in the first block of a stage. Keras's strides
in the 3×3 of a stage's last block, where the shortcut takes every second pixel; its first block has a norm of its own; its
stem is pooled with zeros around it, which win over what is negative; some of its convolutions have biases.
Initialised by He et al. (fan out) as torchvision's ResNets, and Keras's by Glorot.
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
    """1×1 reduce, 3×3, 1×1 expand, norm and ReLU before each, and the shortcut around them."""

    filters: int
    striding: Striding
    drop_rate: float | jax.Array  # of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable
    activated: bool = False  # norm and ReLU are behind the input already
    stride_first: bool = False
    average_shortcut: bool = False
    use_bias: bool = False  # Keras's: in what is added

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
        """The identity, every stride-th pixel; or a projection where the number of channels changes."""
        stride = self.striding.stride
        if x.shape[-1] == 4 * self.filters:
            return x[:, ::stride, ::stride]
        if self.average_shortcut:
            activated, stride = averaged(activated, self.striding), 1
        return self.conv(4 * self.filters, 1, stride, use_bias=self.use_bias, name="shortcut_conv")(activated)


class ResNetV2(Network, kw_only=True):
    """Stem, four stages of pre-activation blocks, norm and ReLU, global average pool, linear head.

    `stem` and `output_stride` are ResNet's. `stage4` is what the last norm and ReLU give.
    """

    depths: tuple[int, ...]  # blocks in each stage
    block: Callable[..., PreActBottleneck]
    width: int  # of the stem; a block's output in the first stage is 4 times as wide
    stem: Literal["imagenet", "small"] = "imagenet"
    output_stride: Literal[8, 16, 32] = 32

    stem_norm: ClassVar[bool] = True  # norm and ReLU right after the stem
    stride_last: ClassVar[bool] = False  # a stage strides in its last block, and there is no stride after the last stage

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
                strides_here = index == (depth if self.stride_last else 1)
                block = self.block(
                    filters=self.width * 2 ** (stage - 1),
                    striding=striding if strides_here else Striding(1, dilation, dilation),
                    drop_rate=self.drop_path_rate * blocks / sum(self.depths) if train else 0.0,
                    conv=conv,
                    norm=norm,
                    activated=self.stem_norm and blocks == 1,
                    name=f"stage{stage}_block{index}",
                )
                x = self.run(block, x)
                dilation = striding.dilation if strides_here else dilation
            if stage == len(self.depths):
                x = norm(name="head_norm", activation=nn.relu)(x)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        return conv(self.width, size, stride, name="stem_conv")(images)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return max_pool(x, 3, 2, padding=1)


class KerasResNetV2(ResNetV2):
    """Keras's."""

    stem_norm = False
    stride_last = True

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        return super().first_layers(images, partial(conv, use_bias=True), norm)

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        return zero_padded_max_pool(x)


def zero_padded_max_pool(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, H/2, W/2, C): the maximum of each 3×3 window of stride 2, in which zeros at the edges count."""
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


resnet_v2 = partial(variant, flavour=TORCHVISION, width=64, image_size=224, paper="arXiv:1603.05027")
paper = partial(resnet_v2, module=ResNetV2, block=partial(PreActBottleneck, stride_first=True))
paper("resnet50_v2", depths=(3, 4, 6, 3))  # 25.5 M parameters
paper("resnet101_v2", depths=(3, 4, 23, 3))  # 44.5 M
paper("resnet152_v2", depths=(3, 8, 36, 3))  # 60.2 M
paper("resnet200_v2", depths=(3, 24, 36, 3))  # 64.7 M

keras = partial(resnet_v2, module=KerasResNetV2, flavour=KERAS_RESNET, block=partial(PreActBottleneck, use_bias=True))
keras("keras/ResNet50V2", depths=(3, 4, 6, 3))  # 25.6 M
keras("keras/ResNet101V2", depths=(3, 4, 23, 3))  # 44.6 M
keras("keras/ResNet152V2", depths=(3, 8, 36, 3))  # 60.2 M

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
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, StochasticDepth, average_pool, conv, global_average_pool, linear, max_pool
from jaxcnn.models.registry import check_images, variant
from jaxcnn.models.resnet_keras import GLOROT, keras_norm


class PreActBottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand, norm and ReLU before each, and the shortcut around them."""

    filters: int
    stride: int
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
        first, second = (self.stride, 1) if self.stride_first else (1, self.stride)
        activated = x if self.activated else self.norm(name="norm1", activation=nn.relu)(x)
        y = self.conv(self.filters, 1, first, name="conv1")(activated)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        y = self.conv(self.filters, 3, second, name="conv2")(y)
        y = self.norm(name="norm3", activation=nn.relu)(y)
        y = self.conv(4 * self.filters, 1, use_bias=self.use_bias, name="conv3")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + self.shortcut(x, activated)

    def shortcut(self, x, activated):
        """The identity, every stride-th pixel; or a projection where the number of channels changes."""
        stride = self.stride
        if x.shape[-1] == 4 * self.filters:
            return x[:, ::stride, ::stride]
        if self.average_shortcut and stride > 1:
            activated, stride = average_pool(activated, stride, stride, ceil_mode=True, count_padding=False), 1
        return self.conv(4 * self.filters, 1, stride, use_bias=self.use_bias, name="shortcut_conv")(activated)


class ResNetV2(nn.Module):
    """Stem, four stages of pre-activation blocks, norm and ReLU, global average pool, linear head.

    `stem`, `stochastic_depth_prob`, `remat` and `freeze_norm` are ResNet's. `stage4` is what the last norm and ReLU give.
    """

    depths: tuple[int, ...]  # blocks in each stage
    width: int  # of the stem; a block's output in the first stage is 4 times as wide
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    stochastic_depth_prob: float = 0.0
    remat: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    stride_last: ClassVar[bool] = False  # a stage strides in its last block, and there is no stride after the last stage
    block_options: ClassVar[dict[str, Any]] = {"stride_first": True}

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images)
        convolution, norm = self.layers(train)
        x, activated = self.first_layers(images, convolution, norm)

        run = nn.remat(_run) if self.remat else _run
        blocks = 0
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                blocks += 1
                strides = index == depth and stage < 4 if self.stride_last else index == 1 and stage > 1
                block = PreActBottleneck(
                    filters=self.width * 2 ** (stage - 1),
                    stride=2 if strides else 1,
                    drop_rate=self.stochastic_depth_prob * blocks / sum(self.depths) if train else 0.0,
                    conv=convolution,
                    norm=norm,
                    activated=activated and blocks == 1,
                    **self.block_options,
                    name=f"stage{stage}_block{index}",
                )
                x = run(block, x)
            if stage == len(self.depths):
                x = norm(name="head_norm", activation=nn.relu)(x)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        return x if self.num_classes == 0 else self.classifier(x)

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        return partial(conv, dtype=self.dtype), norm

    def first_layers(self, images: jax.Array, convolution: Callable, norm: Callable) -> tuple[jax.Array, bool]:
        """(N, H, W, C) -> (N, H/4, W/4, width), or (N, H, W, width) with the small stem; and whether a ReLU is behind it."""
        x = norm(name="stem_norm", activation=nn.relu)(self.stem_conv(images, convolution, norm))
        self.sow("intermediates", "stem", x)
        return (max_pool(x, 3, 2, padding=1) if self.stem == "imagenet" else x), True

    def stem_conv(self, images: jax.Array, convolution: Callable, norm: Callable) -> jax.Array:
        """(N, H, W, C) -> (N, H/2, W/2, width), or (N, H, W, width) with the small stem."""
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        return convolution(self.width, size, stride, name="stem_conv")(images)

    def classifier(self, x: jax.Array) -> jax.Array:
        """(N, features) -> (N, num_classes)."""
        return linear(x.shape[-1], self.num_classes, name="head")(x)


class KerasResNetV2(ResNetV2):
    """Keras's flavour."""

    stride_last = True
    block_options: ClassVar = {"use_bias": True}

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        norm = partial(keras_norm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        return partial(conv, kernel_init=GLOROT, dtype=self.dtype), norm

    def first_layers(self, images: jax.Array, convolution: Callable, norm: Callable) -> tuple[jax.Array, bool]:
        """(N, H, W, C) -> (N, H/4, W/4, 64), or (N, H, W, 64) with the small stem; and whether a ReLU is behind it."""
        x = self.stem_conv(images, partial(convolution, use_bias=True), norm)
        self.sow("intermediates", "stem", x)
        return (zero_padded_max_pool(x) if self.stem == "imagenet" else x), False

    def classifier(self, x: jax.Array) -> jax.Array:
        """(N, features) -> (N, num_classes)."""
        return nn.Dense(self.num_classes, kernel_init=GLOROT, name="head")(x)


def zero_padded_max_pool(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, H/2, W/2, C): the maximum of each 3×3 window of stride 2, in which zeros at the edges count."""
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


def _run(block: nn.Module, x: jax.Array) -> jax.Array:
    return block(x)


resnet_v2 = partial(variant, image_size=224, paper="arXiv:1603.05027")
resnet_v2("resnet50_v2", ResNetV2, width=64, depths=(3, 4, 6, 3))  # 25.5 M parameters
resnet_v2("resnet101_v2", ResNetV2, width=64, depths=(3, 4, 23, 3))  # 44.5 M
resnet_v2("resnet152_v2", ResNetV2, width=64, depths=(3, 8, 36, 3))  # 60.2 M
resnet_v2("resnet200_v2", ResNetV2, width=64, depths=(3, 24, 36, 3))  # 64.7 M
resnet_v2("keras/ResNet50V2", KerasResNetV2, width=64, depths=(3, 4, 6, 3))  # 25.6 M
resnet_v2("keras/ResNet101V2", KerasResNetV2, width=64, depths=(3, 4, 23, 3))  # 44.6 M
resnet_v2("keras/ResNet152V2", KerasResNetV2, width=64, depths=(3, 8, 36, 3))  # 60.2 M

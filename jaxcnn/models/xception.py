"""Xception.

Chollet: Xception: Deep Learning with Depthwise Separable Convolutions. CVPR 2017, arXiv:1610.02357; figure 5. Keras's is
the author's; timm's legacy_xception pads pooling on both sides and takes 1e-5 for batch norm's epsilon.
timm's xception41, 65 and 71 are the Modified Aligned Xception of Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with
Atrous Separable Convolution. ECCV 2018, arXiv:1802.02611; figure 4: strided separable convolutions instead of pooling,
batch norm after each depthwise convolution too, a longer exit.
Initialised as the library does: Keras by Glorot, legacy_xception by He et al. (fan out), xception41 with PyTorch's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, StochasticDepth, conv, global_average_pool, he_normal, linear, max_pool
from jaxcnn.models.registry import check_images, variant


def separable(x: jax.Array, features: int, conv: Callable, name: str) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, features): a 3×3 depthwise convolution and a 1×1, nothing between them."""
    x = conv(x.shape[-1], 3, groups=x.shape[-1], name=f"{name}_depthwise")(x)
    return conv(features, 1, name=f"{name}_pointwise")(x)


class Block(nn.Module):
    """ReLU and separable convolution two or three times, max-pooling where it strides, and the shortcut around them."""

    filters: tuple[int, ...]
    stride: int
    first_relu: bool
    same: bool  # TensorFlow's padding
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters[-1])."""
        y = x
        for n, filters in enumerate(self.filters, start=1):
            y = nn.relu(y) if n > 1 or self.first_relu else y
            y = self.norm(name=f"norm{n}")(separable(y, filters, self.conv, f"sepconv{n}"))
        if self.stride > 1:
            y = max_pool(y, 3, self.stride, padding="SAME" if self.same else 1)
        return y + shortcut(x, self.filters[-1], self.stride, self.conv, self.norm)


def shortcut(x: jax.Array, features: int, stride: int, conv: Callable, norm: Callable) -> jax.Array:
    """The identity, or a projection where the size or the number of channels changes."""
    if stride == 1 and x.shape[-1] == features:
        return x
    return norm(name="shortcut_norm")(conv(features, 1, stride, name="shortcut_conv")(x))


class Xception(nn.Module):
    """Stem, blocks in three flows, two separable convolutions, global average pool, dropout, linear head.

    `drop_rate` is the dropout's, 0.5 in the paper. `freeze_norm` uses the running statistics in training too.
    """

    flavour: Literal["keras", "timm"]
    middle: int  # blocks in the middle flow
    num_classes: int = 1000
    drop_rate: float = 0.0
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 2048) features if num_classes is 0."""
        check_images(self, images, at_least=7)
        keras = self.flavour == "keras"
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        if keras:
            norm = partial(norm, momentum=0.01, epsilon=1e-3, unbiased=False)
        init = nn.initializers.glorot_uniform() if keras else he_normal("fan_out")
        convolution = partial(conv, kernel_init=init, dtype=self.dtype)

        x = norm(name="stem_norm", activation=nn.relu)(convolution(32, 3, 2, padding=0, name="stem_conv")(images))
        x = norm(name="stem_norm2", activation=nn.relu)(convolution(64, 3, padding=0, name="stem_conv2")(x))
        self.sow("intermediates", "stem", x)
        widths = ((128, 128), (256, 256), (728, 728), *[(728,) * 3] * self.middle, (728, 1024))
        for number, filters in enumerate(widths, start=1):
            stride = 2 if len(filters) == 2 else 1
            block = partial(Block, same=keras, conv=convolution, norm=norm, name=f"block{number}")
            x = block(filters, stride, first_relu=number > 1)(x)
            if number in (1, 2, 3 + self.middle):
                self.sow("intermediates", f"stage{min(number, 3)}", x)
        for n, features in enumerate((1536, 2048), start=1):
            x = norm(name=f"last_norm{n}", activation=nn.relu)(separable(x, features, convolution, f"last_sepconv{n}"))
        self.sow("intermediates", "stage4", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        head: dict[str, Any] = {"kernel_init": init, "bias_init": nn.initializers.zeros} if keras else {}
        return linear(2048, self.num_classes, name="head", **head)(x)


class AlignedBlock(nn.Module):
    """Three separable convolutions, the last of which strides; all after a ReLU and around them a shortcut, if `residual`."""

    filters: tuple[int, int, int]
    stride: int
    residual: bool
    drop_path: float
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x, *, train):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters[-1])."""
        before, after = (nn.relu, lambda y: y) if self.residual else (lambda y: y, nn.relu)
        y = x
        for n, filters in enumerate(self.filters, start=1):
            y, channels, stride = before(y), y.shape[-1], self.stride if n == 3 else 1
            y = self.conv(channels, 3, stride, groups=channels, name=f"sepconv{n}_depthwise")(y)
            y = after(self.norm(name=f"sepconv{n}_depthwise_norm")(y))
            y = self.conv(filters, 1, name=f"sepconv{n}_pointwise")(y)
            y = after(self.norm(name=f"sepconv{n}_pointwise_norm")(y))
        if not self.residual:
            return y
        y = StochasticDepth(self.drop_path)(y, train=train)
        return y + shortcut(x, self.filters[-1], self.stride, self.conv, self.norm)


class AlignedXception(nn.Module):
    """Stem, blocks of three separable convolutions, global average pool, dropout, linear head.

    `drop_rate` is the dropout's; `drop_path_rate` is stochastic depth's at the last block, rising from 0 at the first.
    `freeze_norm` uses the running statistics in training too.
    """

    entry: tuple[tuple[int, int], ...]  # width and stride of its blocks
    middle: int  # blocks
    num_classes: int = 1000
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 2048) features if num_classes is 0."""
        check_images(self, images)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        convolution = partial(conv, kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), dtype=self.dtype)

        x = norm(name="stem_norm", activation=nn.relu)(convolution(32, 3, 2, name="stem_conv")(images))
        x = norm(name="stem_norm2", activation=nn.relu)(convolution(64, 3, name="stem_conv2")(x))
        self.sow("intermediates", "stem", x)
        blocks = (
            *[((width,) * 3, stride) for width, stride in self.entry],
            *[((728, 728, 728), 1)] * self.middle,
            ((728, 1024, 1024), 2),
            ((1536, 1536, 2048), 1),
        )
        stage = 0
        for number, (filters, stride) in enumerate(blocks, start=1):
            x = AlignedBlock(
                filters,
                stride,
                residual=number < len(blocks),
                drop_path=self.drop_path_rate * (number - 1) / (len(blocks) - 1),
                conv=convolution,
                norm=norm,
                name=f"block{number}",
            )(x, train=train)
            stage += stride > 1
            if number == len(blocks) or blocks[number][1] > 1:  # the next one strides
                self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return linear(2048, self.num_classes, name="head")(x)


xception = partial(variant, image_size=299, paper="arXiv:1610.02357")
xception("keras/Xception", Xception, flavour="keras", middle=8)  # 22.9 M parameters
xception("timm/legacy_xception", Xception, flavour="timm", middle=8)

ENTRY = ((128, 2), (256, 2), (728, 2))
aligned = partial(variant, module=AlignedXception, image_size=299, paper="arXiv:1802.02611")
aligned("timm/xception41", entry=ENTRY, middle=8)  # 27.0 M
aligned("timm/xception65", entry=ENTRY, middle=16)  # 39.9 M
aligned("timm/xception71", entry=((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), middle=16)  # 42.3 M

"""Xception.

Chollet: Xception: Deep Learning with Depthwise Separable Convolutions. CVPR 2017, arXiv:1610.02357; figure 5. Keras's
is the author's implementation. timm's legacy_xception has symmetric padding in its pools and 1e-5 as epsilon of batch norm.
timm's xception41, 65 and 71 are the Modified Aligned Xception of Chen, Zhu, Papandreou, Schroff, Adam: Encoder-Decoder with
Atrous Separable Convolution. ECCV 2018, arXiv:1802.02611; figure 4: separable convolutions with stride 2 instead of
pooling, batch norm also after depthwise convolutions, and a longer exit flow.
Initialized as in the library: Keras's by Glorot, legacy_xception by He et al. (fan out), xception41 to 71 by PyTorch's default.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax

from jaxcnn.layers import StochasticDepth, identity, max_pool
from jaxcnn.models.network import KERAS, PYTORCH, TORCHVISION, Network, stridings
from jaxcnn.models.registry import variant


def separable(x: jax.Array, features: int, conv: Callable, name: str) -> jax.Array:
    """Applies a 3×3 depthwise and a 1×1 convolution with nothing between them: (N, H, W, C) -> (N, H, W, features)."""
    x = conv(x.shape[-1], 3, groups=x.shape[-1], name=f"{name}_depthwise")(x)
    return conv(features, 1, name=f"{name}_pointwise")(x)


class Block(nn.Module):
    """Two or three times ReLU, separable convolution and norm; a max pool if the stride is 2; and a shortcut."""

    filters: tuple[int, ...]
    stride: int
    first_relu: bool
    pool_padding: int | Literal["SAME"]
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
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
            y = max_pool(y, 3, self.stride, padding=self.pool_padding)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + shortcut(x, self.filters[-1], self.stride, self.conv, self.norm)


def shortcut(x: jax.Array, features: int, stride: int, conv: Callable, norm: Callable) -> jax.Array:
    """Returns x, or its projection if the size or the number of channels changes."""
    if stride == 1 and x.shape[-1] == features:
        return x
    return norm(name="shortcut_norm")(conv(features, 1, stride, name="shortcut_conv")(x))


class Xception(Network, kw_only=True):
    """Stem, blocks in entry, middle and exit flow, two separable convolutions, global average pool, dropout, linear head.

    The rate of stochastic depth grows from 0 in the first block.
    """

    pool_padding: int | Literal["SAME"]
    middle: int  # blocks in the middle flow

    smallest = 7

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 2048)."""
        conv, norm = self.layers(train)
        x = norm(name="stem_norm", activation=nn.relu)(conv(32, 3, 2, padding=0, name="stem_conv")(images))
        x = norm(name="stem_norm2", activation=nn.relu)(conv(64, 3, padding=0, name="stem_conv2")(x))
        self.sow("intermediates", "stem", x)
        widths = ((128, 128), (256, 256), (728, 728), *[(728,) * 3] * self.middle, (728, 1024))
        rates = self.drop_path_rates(len(widths), train)
        for number, filters in enumerate(widths, start=1):
            block = Block(
                filters,
                stride=2 if len(filters) == 2 else 1,
                first_relu=number > 1,
                pool_padding=self.pool_padding,
                drop_rate=next(rates),
                conv=conv,
                norm=norm,
                name=f"block{number}",
            )
            x = self.run(block, x)
            if number in (1, 2, 3 + self.middle):
                self.sow("intermediates", f"stage{min(number, 3)}", x)
        for n, features in enumerate((1536, 2048), start=1):
            x = norm(name=f"last_norm{n}", activation=nn.relu)(separable(x, features, conv, f"last_sepconv{n}"))
        self.sow("intermediates", "stage4", x)
        return x


class AlignedBlock(nn.Module):
    """Three separable convolutions, the last with the stride. If `residual`, ReLUs come first and there is a shortcut."""

    filters: tuple[int, int, int]
    stride: int
    dilation: int
    residual: bool
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters[-1])."""
        before, after = (nn.relu, identity) if self.residual else (identity, nn.relu)
        y = x
        for n, filters in enumerate(self.filters, start=1):
            y, stride = before(y), self.stride if n == 3 else 1
            depthwise = partial(self.conv, groups=y.shape[-1], dilation=self.dilation, name=f"sepconv{n}_depthwise")
            y = depthwise(y.shape[-1], 3, stride)(y)
            y = after(self.norm(name=f"sepconv{n}_depthwise_norm")(y))
            y = self.conv(filters, 1, name=f"sepconv{n}_pointwise")(y)
            y = after(self.norm(name=f"sepconv{n}_pointwise_norm")(y))
        if not self.residual:
            return y
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + shortcut(x, self.filters[-1], self.stride, self.conv, self.norm)


class AlignedXception(Network, kw_only=True):
    """Stem, blocks of three separable convolutions, global average pool, dropout, linear head.

    The rate of stochastic depth grows from 0 in the first block. `output_stride` limits the stride of the network: the last
    blocks are dilated instead.
    """

    entry: tuple[tuple[int, int], ...]  # width and stride of each block of the entry flow
    middle: int  # blocks in the middle flow
    output_stride: Literal[8, 16, 32] = 32

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 2048)."""
        conv, norm = self.layers(train)
        x = norm(name="stem_norm", activation=nn.relu)(conv(32, 3, 2, name="stem_conv")(images))
        x = norm(name="stem_norm2", activation=nn.relu)(conv(64, 3, name="stem_conv2")(x))
        self.sow("intermediates", "stem", x)
        blocks = (
            *[((width,) * 3, stride) for width, stride in self.entry],
            *[((728, 728, 728), 1)] * self.middle,
            ((728, 1024, 1024), 2),
            ((1536, 1536, 2048), 1),
        )
        _, *strides = stridings(self, (2, *(stride for _, stride in blocks)), self.output_stride)
        rates = self.drop_path_rates(len(blocks), train)
        stage = 0
        for number, ((filters, stride), striding) in enumerate(zip(blocks, strides, strict=True), start=1):
            block = AlignedBlock(
                filters,
                striding.stride,
                striding.first_dilation,
                residual=number < len(blocks),
                drop_rate=next(rates),
                conv=conv,
                norm=norm,
                name=f"block{number}",
            )
            x = self.run(block, x)
            stage += stride > 1
            if number == len(blocks) or blocks[number][1] > 1:  # the next block has a stride
                self.sow("intermediates", f"stage{stage}", x)
        return x


xception = partial(variant, module=Xception, middle=8, image_size=299, paper="arXiv:1610.02357")
xception("keras/Xception", flavor=KERAS, pool_padding="SAME")  # 22.9 M parameters; the paper's drop_rate is 0.5
xception("timm/legacy_xception", flavor=TORCHVISION, pool_padding=1)

TIMM = PYTORCH._replace(epsilon=1e-3)
ENTRY = ((128, 2), (256, 2), (728, 2))
aligned = partial(variant, module=AlignedXception, flavor=TIMM, image_size=299, paper="arXiv:1802.02611")
aligned("timm/xception41", entry=ENTRY, middle=8)  # 27.0 M
aligned("timm/xception65", entry=ENTRY, middle=16)  # 39.9 M
aligned("timm/xception71", entry=((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), middle=16)  # 42.3 M

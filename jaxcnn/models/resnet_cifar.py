"""Residual networks for CIFAR.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385; section 4.2 and table 6.
A network has 6n + 2 layers: a 3×3 convolution, three stages of n blocks with 16, 32 and 64 filters, global average pool, linear
head. Shortcuts have no parameters (option A). Initialized by He et al. (fan in), biases zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import StochasticDepth, he_normal, in_sequence, relu
from jaxcnn.models.network import ZEROS, Flavor, Network, Striding
from jaxcnn.models.registry import variant


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    filters: int
    striding: Striding
    conv: Callable
    norm: Callable
    drop_rate: float | jax.Array = 0.0  # rate of stochastic depth; 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        y = self.conv(self.filters, 3, self.striding.stride, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = self.norm(name="norm2")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return relu(y + padded_shortcut(x, self.filters, self.striding.stride))


def padded_shortcut(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Returns every stride-th pixel of x with zeros as the new channels, half before and half after the others (option A)."""
    added = features - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (added // 2, added - added // 2)))


class CifarResNet(Network, kw_only=True):
    """A 3×3 convolution, three stages of `depth` blocks, global average pool, linear head.

    With `scan`, the equal blocks of a stage are compiled as one loop.
    """

    depth: int  # blocks in each stage
    block: Callable[..., nn.Module]
    filters: tuple[int, int, int]  # of each stage
    num_classes: int = 10
    scan: bool = False

    pre_activation: ClassVar[bool] = False  # norm and ReLU precede convolutions and follow the last block

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4, W/4, F)."""
        conv, norm = self.layers(train)
        x = conv(16, 3, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)

        for stage, filters in enumerate(self.filters, start=1):
            names = [f"stage{stage}_block{index}" for index in range(1, self.depth + 1)]
            increment = self.drop_path_rate / (3 * self.depth) if train else 0.0
            rates = [increment * ((stage - 1) * self.depth + index) for index in range(1, self.depth + 1)]
            block = partial(self.block, filters=filters, conv=conv, norm=norm, **self.block_options(train))
            first = partial(block, striding=Striding(2 if stage > 1 else 1))
            if self.pre_activation:
                first = partial(first, activated=stage == 1)
            x = in_sequence(self, first, names[:1], rates[:1], x, remat=self.remat)
            x = in_sequence(
                self, partial(block, striding=Striding(1)), names[1:], rates[1:], x, scan=self.scan, remat=self.remat
            )
            if self.pre_activation and stage == 3:
                x = norm(name="head_norm", activation=nn.relu)(x)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def block_options(self, train: bool) -> dict[str, Any]:
        """Returns further arguments of every block."""
        return {}


HE = Flavor(he_normal("fan_in"), head_init=he_normal("fan_in"), head_bias_init=ZEROS)
cifar = partial(variant, filters=(16, 32, 64), image_size=32)
resnet = partial(cifar, module=CifarResNet, flavor=HE, block=Block, paper="arXiv:1512.03385")
resnet("resnet20", depth=3)  # 0.27 M parameters
resnet("resnet32", depth=5)  # 0.46 M
resnet("resnet44", depth=7)  # 0.66 M
resnet("resnet56", depth=9)  # 0.85 M
resnet("resnet110", depth=18)  # 1.7 M
resnet("resnet1202", depth=200, scan=True)  # 19.4 M

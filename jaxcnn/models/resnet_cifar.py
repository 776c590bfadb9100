"""Residual networks for CIFAR.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385; section 4.2 and table 6.
6n + 2 layers: a 3×3 convolution, three stages of n blocks with 16, 32 and 64 filters, global average pool, linear head.
Shortcuts have no parameters (option A). Initialised by He et al. (fan in), biases zero.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, StochasticDepth, conv, global_average_pool, he_normal, in_sequence, relu
from jaxcnn.models.registry import check_images, variant


class Block(nn.Module):
    """Two 3×3 convolutions and the shortcut around them."""

    filters: int
    stride: int
    conv: Callable
    norm: Callable
    drop_rate: float | jax.Array = 0.0  # of stochastic depth; 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        y = self.conv(self.filters, 3, self.stride, name="conv1")(x)
        y = self.norm(name="norm1", activation=nn.relu)(y)
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = self.norm(name="norm2")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return relu(y + self.shortcut(x))

    def shortcut(self, x):
        """Every stride-th pixel, and zeros for the new channels: half on each side, as published weights have it."""
        new = self.filters - x.shape[-1]
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


class CifarResNet(nn.Module):
    """A residual network of 6·depth + 2 layers.

    `stochastic_depth_prob` is the rate at which the last block is dropped in training; it grows linearly with depth (Huang
    et al., arXiv:1603.09382, equation 4; here by image). With `scan` a stage's equal blocks are compiled once. `remat`
    computes a block's activations again in the backward pass. `freeze_norm` uses the running statistics in training too,
    and keeps them.
    """

    depth: int  # blocks in each stage
    num_classes: int = 10
    stochastic_depth_prob: float = 0.0
    scan: bool = False
    remat: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 64) if num_classes is 0."""
        check_images(self, images)
        convolution = partial(conv, kernel_init=he_normal("fan_in"), dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)

        x = convolution(16, 3, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=nn.relu)(x)
        self.sow("intermediates", "stem", x)

        for stage, filters in enumerate((16, 32, 64), start=1):
            names = [f"stage{stage}_block{index}" for index in range(1, self.depth + 1)]
            last = self.stochastic_depth_prob / (3 * self.depth) if train else 0.0
            rates = [last * ((stage - 1) * self.depth + index) for index in range(1, self.depth + 1)]
            block = partial(Block, filters=filters, conv=convolution, norm=norm)
            first = partial(block, stride=2 if stage > 1 else 1)
            x = in_sequence(self, first, names[:1], rates[:1], x, remat=self.remat)
            x = in_sequence(self, partial(block, stride=1), names[1:], rates[1:], x, scan=self.scan, remat=self.remat)
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        return nn.Dense(self.num_classes, kernel_init=he_normal("fan_in"), name="head")(x)


resnet = partial(variant, image_size=32, paper="arXiv:1512.03385")
resnet("resnet20", CifarResNet, depth=3)  # 0.27 M parameters
resnet("resnet32", CifarResNet, depth=5)  # 0.46 M
resnet("resnet44", CifarResNet, depth=7)  # 0.66 M
resnet("resnet56", CifarResNet, depth=9)  # 0.85 M
resnet("resnet110", CifarResNet, depth=18)  # 1.7 M
resnet("resnet1202", CifarResNet, depth=200, scan=True)  # 19.4 M

"""DenseNet.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks. CVPR 2017, arXiv:1608.06993; section 3
and table 1. Every layer of a block sees the maps of all before it. For ImageNet as torchvision and Keras have them, for
CIFAR after section 3.

Convolutions start by He et al. (fan in), the head uniform with zero biases, as torchvision; by Glorot and Bengio in
Keras's flavour, whose norms differ too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, average_pool, conv, global_average_pool, he_normal, linear, max_pool
from jaxcnn.models.registry import check_images, variant


class DenseLayer(nn.Module):
    """New maps from all that are there: norm, ReLU, 3×3 convolution; before it the same with 1×1 as a bottleneck."""

    growth: int
    bottleneck: bool
    conv: Callable
    norm: Callable
    dropout: Callable

    @nn.compact
    def __call__(self, maps):
        """[(N, H, W, C), …] -> (N, H, W, growth)."""
        x = self.norm(name="norm1", activation=nn.relu)(jnp.concatenate(maps, axis=-1))
        if self.bottleneck:
            x = self.conv(4 * self.growth, 1, name="conv1")(x)
            x = self.norm(name="norm2", activation=nn.relu)(x)
        x = self.conv(self.growth, 3, name="conv2" if self.bottleneck else "conv1")(x)
        return self.dropout()(x)


class DenseNet(nn.Module):
    """Stem, dense blocks with transitions between that halve the size, norm, global average pool, linear head.

    The "small" stem is a 3×3 convolution without stride and no pooling. `drop_rate` is the dropout after each layer.
    `remat` computes the insides of the layers again for the gradient: joined and normalised, maps would take memory
    that grows with the square of the depth (Pleiss et al., arXiv:1707.06990). `freeze_norm` uses the running statistics
    in training too, and keeps them.
    """

    depths: tuple[int, ...]  # layers in each block
    growth: int
    stem_filters: int
    bottleneck: bool
    compression: float  # the part of the maps that a transition keeps, the paper's θ
    keras: bool
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    drop_rate: float = 0.0
    remat: bool = False
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        last = len(self.depths)
        check_images(self, images, at_least=29 if self.stem == "imagenet" else 2 ** (last - 1))  # all pools see 2×2
        conv_init = nn.initializers.glorot_uniform() if self.keras else he_normal("fan_in")
        convolution = partial(conv, kernel_init=conv_init, dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        if self.keras:
            norm = partial(norm, momentum=0.01, epsilon=1.001e-5, unbiased=False)
        dropout = partial(nn.Dropout, self.drop_rate, deterministic=not train)
        layer = partial(
            nn.remat(DenseLayer) if self.remat else DenseLayer, self.growth, self.bottleneck, convolution, norm, dropout
        )

        if self.stem == "imagenet":
            x = convolution(self.stem_filters, 7, 2, name="stem_conv")(images)
            x = norm(name="stem_norm", activation=nn.relu)(x)
        else:
            x = convolution(self.stem_filters, 3, name="stem_conv")(images)
        self.sow("intermediates", "stem", x)
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, padding=1)

        for stage, depth in enumerate(self.depths, start=1):
            maps = [x]
            for index in range(1, depth + 1):
                maps.append(layer(name=f"stage{stage}_layer{index}")(maps))
            x = jnp.concatenate(maps, axis=-1)
            if stage < last:
                self.sow("intermediates", f"stage{stage}", x)
                x = norm(name=f"transition{stage}_norm", activation=nn.relu)(x)
                x = convolution(int(self.compression * x.shape[-1]), 1, name=f"transition{stage}_conv")(x)
                x = average_pool(x, 2, 2)
        x = norm(name="final_norm", activation=nn.relu)(x)
        self.sow("intermediates", f"stage{last}", x)

        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        kernel_init = nn.initializers.glorot_uniform() if self.keras else None
        zeros = nn.initializers.zeros
        return linear(x.shape[-1], self.num_classes, kernel_init=kernel_init, bias_init=zeros, name="head")(x)


BC: dict[str, Any] = {"bottleneck": True, "compression": 0.5}
TORCHVISION: dict[str, Any] = {"growth": 32, "stem_filters": 64, **BC, "keras": False}
KERAS = TORCHVISION | {"keras": True}

densenet = partial(variant, image_size=224, paper="arXiv:1608.06993")
densenet("torchvision/densenet121", DenseNet, depths=(6, 12, 24, 16), **TORCHVISION)  # 8.0 M parameters
densenet("torchvision/densenet161", DenseNet, depths=(6, 12, 36, 24), growth=48, stem_filters=96, **BC, keras=False)  # 28.7 M
densenet("torchvision/densenet169", DenseNet, depths=(6, 12, 32, 32), **TORCHVISION)  # 14.1 M
densenet("torchvision/densenet201", DenseNet, depths=(6, 12, 48, 32), **TORCHVISION)  # 20.0 M
densenet("keras/DenseNet121", DenseNet, depths=(6, 12, 24, 16), **KERAS)
densenet("keras/DenseNet169", DenseNet, depths=(6, 12, 32, 32), **KERAS)
densenet("keras/DenseNet201", DenseNet, depths=(6, 12, 48, 32), **KERAS)

CIFAR: dict[str, Any] = {"stem": "small", "num_classes": 10, "keras": False}
PLAIN: dict[str, Any] = {"bottleneck": False, "compression": 1.0}

cifar = partial(variant, image_size=32, paper="arXiv:1608.06993")
cifar("densenet40_12", DenseNet, depths=(12, 12, 12), growth=12, stem_filters=16, **PLAIN, **CIFAR)  # 1.0 M
cifar("densenet_bc100_12", DenseNet, depths=(16, 16, 16), growth=12, stem_filters=24, **BC, **CIFAR)  # 0.8 M
cifar("densenet_bc190_40", DenseNet, depths=(31, 31, 31), growth=40, stem_filters=80, **BC, **CIFAR)  # 25.6 M

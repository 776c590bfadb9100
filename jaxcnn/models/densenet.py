"""DenseNet.

Huang, Liu, van der Maaten, Weinberger: Densely Connected Convolutional Networks. CVPR 2017, arXiv:1608.06993; section 3
and table 1. The input of a layer is the concatenation of the outputs of all earlier layers of its block. The networks for
ImageNet are torchvision's and Keras's, those for CIFAR follow section 3.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import average_pool, he_normal, max_pool
from jaxcnn.models.network import KERAS, ZEROS, Flavor, Network
from jaxcnn.models.registry import variant


class DenseLayer(nn.Module):
    """Concatenation of all earlier maps, norm, ReLU, 3×3 convolution; preceded by norm, ReLU, 1×1 if `bottleneck`."""

    growth: int
    bottleneck: bool
    drop_rate: float  # of dropout; 0 in evaluation
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, *maps):
        """(N, H, W, C), … -> (N, H, W, growth)."""
        x = self.norm(name="norm1", activation=nn.relu)(jnp.concatenate(maps, axis=-1))
        if self.bottleneck:
            x = self.conv(4 * self.growth, 1, name="conv1")(x)
            x = self.norm(name="norm2", activation=nn.relu)(x)
        x = self.conv(self.growth, 3, name="conv2" if self.bottleneck else "conv1")(x)
        return nn.Dropout(self.drop_rate, deterministic=False)(x)


class DenseNet(Network, kw_only=True):
    """Stem, dense blocks with transitions that halve the resolution, norm, global average pool, linear head.

    The "small" stem is a 3×3 convolution with stride 1 and no pooling. Dropout follows each layer; there is none before the
    head. `remat` recomputes the activations inside layers, because concatenated and normalized maps need memory that grows
    with the square of the depth (Pleiss et al., arXiv:1707.06990).
    """

    depths: tuple[int, ...]  # layers in each block
    growth: int
    stem_filters: int
    bottleneck: bool
    compression: float  # θ in the paper: the ratio of output to input channels of a transition
    stem: Literal["imagenet", "small"] = "imagenet"

    without = frozenset({"drop_path_rate"})
    head_dropout = False

    @property
    def smallest(self) -> int:
        """The minimum height and width of images, for which all pools have inputs of at least 2×2."""
        return 29 if self.stem == "imagenet" else 2 ** (len(self.depths) - 1)

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        layer = partial(DenseLayer, self.growth, self.bottleneck, self.drop_rate if train else 0.0, conv, norm)
        if self.stem == "imagenet":
            x = conv(self.stem_filters, 7, 2, name="stem_conv")(images)
            x = norm(name="stem_norm", activation=nn.relu)(x)
        else:
            x = conv(self.stem_filters, 3, name="stem_conv")(images)
        self.sow("intermediates", "stem", x)
        if self.stem == "imagenet":
            x = max_pool(x, 3, 2, padding=1)

        for stage, depth in enumerate(self.depths, start=1):
            maps = [x]
            for index in range(1, depth + 1):
                maps.append(self.run(layer(name=f"stage{stage}_layer{index}"), *maps))
            x = jnp.concatenate(maps, axis=-1)
            if stage < len(self.depths):
                self.sow("intermediates", f"stage{stage}", x)
                x = norm(name=f"transition{stage}_norm", activation=nn.relu)(x)
                x = conv(int(self.compression * x.shape[-1]), 1, name=f"transition{stage}_conv")(x)
                x = average_pool(x, 2, 2)
        x = norm(name="final_norm", activation=nn.relu)(x)
        self.sow("intermediates", f"stage{len(self.depths)}", x)
        return x


HE = Flavor(he_normal("fan_in"), head_bias_init=ZEROS)
densenet = partial(
    variant, module=DenseNet, flavor=HE, image_size=224, paper="arXiv:1608.06993", bottleneck=True, compression=0.5
)
imagenet = partial(densenet, growth=32, stem_filters=64)
imagenet("torchvision/densenet121", depths=(6, 12, 24, 16))  # 8.0 M parameters
imagenet("torchvision/densenet161", depths=(6, 12, 36, 24), growth=48, stem_filters=96)  # 28.7 M
imagenet("torchvision/densenet169", depths=(6, 12, 32, 32))  # 14.1 M
imagenet("torchvision/densenet201", depths=(6, 12, 48, 32))  # 20.0 M

keras = partial(imagenet, flavor=KERAS._replace(epsilon=1.001e-5))
keras("keras/DenseNet121", depths=(6, 12, 24, 16))
keras("keras/DenseNet169", depths=(6, 12, 32, 32))
keras("keras/DenseNet201", depths=(6, 12, 48, 32))

cifar = partial(densenet, stem="small", num_classes=10, image_size=32)
cifar("densenet40_12", depths=(12, 12, 12), growth=12, stem_filters=16, bottleneck=False, compression=1.0)  # 1.0 M
cifar("densenet_bc100_12", depths=(16, 16, 16), growth=12, stem_filters=24)  # 0.8 M
cifar("densenet_bc190_40", depths=(31, 31, 31), growth=40, stem_filters=80)  # 25.6 M

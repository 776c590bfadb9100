"""VGG.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, arXiv:1409.1556;
table 1, configurations A, B, D and E. Five stages of 3×3 convolutions precede three linear layers on 7×7 maps. For images of
another size than 224×224, maps are averaged (or repeated) to 7×7, as in torchvision. The variants "_bn" have batch norm after
every convolution, which is newer than the paper.

The variants for CIFAR have batch norm instead of biases, no pool after the last stage, and one linear layer after a global
average pool. They are the VGGNet of Liu et al.: Learning Efficient Convolutional Networks through Network Slimming. ICCV 2017,
arXiv:1708.06519; but the scales of norms are initialized with 1 instead of 0.5.

Linear layers are initialized as in the library: in torchvision by a normal distribution with σ = 0.01; biases with zero.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import adaptive_average_pool, global_average_pool, max_pool
from jaxcnn.models.network import KERAS, TORCHVISION, ZEROS, Network
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


def layer_name(kind: str, stage: int, index: int) -> str:
    """Returns the name of the index-th "conv" or "norm" of a stage."""
    return f"stem_{kind}" if stage == index == 1 else f"stage{stage}_{kind}{index}"


class VGG(Network, kw_only=True):
    """Stages of 3×3 convolutions, each with a max pool, and three linear layers.

    Dropout follows each of the two hidden linear layers. With num_classes=0, the network returns the mean of its last maps.
    """

    depths: tuple[int, ...]  # convolutions in each stage
    channels_first: bool  # positions vary fastest in the inputs of fc1, as in torchvision's weights
    drop_rate: Share = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 32
    batch_norm = False
    last_pool = True

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        x = images
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                x = conv(min(64 * 2 ** (stage - 1), 512), 3, name=layer_name("conv", stage, index))(x)
                x = norm(name=layer_name("norm", stage, index), activation=nn.relu)(x) if self.batch_norm else nn.relu(x)
            self.sow("intermediates", f"stage{stage}", x)
            if stage < len(self.depths) or self.last_pool:
                x = max_pool(x, 2, 2)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/32, W/32, F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        x = adaptive_average_pool(x, 7)
        x = (x.transpose(0, 3, 1, 2) if self.channels_first else x).reshape(len(x), -1)
        dropout = nn.Dropout(self.drop_rate, deterministic=not train)
        for name in ("fc1", "fc2"):
            x = dropout(nn.relu(self.flavor.linear(x.shape[-1], 4096, name, self.dtype)(x)))
        return self.flavor.linear(4096, self.num_classes, name="head")(x.astype(jnp.float32))


class NormVGG(VGG):
    """A VGG with batch norm after every convolution."""

    without = frozenset({"drop_path_rate", "remat"})
    batch_norm = True


class CifarVGG(NormVGG):
    """The form for CIFAR: no max pool after the last stage, global average pool, one linear layer."""

    smallest = 16
    last_pool = False

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/16, W/16, F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        return Network.classify(self, x, train=train)


A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # the paper's names
PLAIN = TORCHVISION._replace(head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)

vgg = partial(variant, module=VGG, flavor=PLAIN._replace(conv_bias=True), image_size=224, paper="arXiv:1409.1556")
torchvision = partial(vgg, channels_first=True)
torchvision("torchvision/vgg11", depths=A)  # 132.9 M parameters
torchvision("torchvision/vgg13", depths=B)  # 133.0 M
torchvision("torchvision/vgg16", depths=D)  # 138.4 M
torchvision("torchvision/vgg19", depths=E)  # 143.7 M
torchvision("torchvision/vgg11_bn", module=NormVGG, depths=A)
torchvision("torchvision/vgg13_bn", module=NormVGG, depths=B)
torchvision("torchvision/vgg16_bn", module=NormVGG, depths=D)
torchvision("torchvision/vgg19_bn", module=NormVGG, depths=E)

keras = partial(vgg, flavor=KERAS._replace(conv_bias=True), channels_first=False, drop_rate=0.0)
keras("keras/VGG16", depths=D)
keras("keras/VGG19", depths=E)

cifar = partial(torchvision, module=CifarVGG, flavor=PLAIN, num_classes=10, drop_rate=0.0, image_size=32)
cifar("vgg11_cifar", depths=A)  # 9.2 M
cifar("vgg13_cifar", depths=B)  # 9.4 M
cifar("vgg16_cifar", depths=D)  # 14.7 M
cifar("vgg19_cifar", depths=E)  # 20.0 M

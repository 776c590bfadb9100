"""VGG.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, arXiv:1409.1556;
table 1, configurations A, B, D and E. Five stages of 3×3 convolutions, then three linear layers on 7×7 maps; of images
that are not 224×224, the maps are averaged (or repeated) to 7×7, as torchvision does.
"_bn" has batch norm after every convolution, which came after the paper.

The form for CIFAR has batch norm instead of biases and one linear layer on the means of the last maps, which are not
pooled before: the VGGNet of Liu et al.: Learning Efficient Convolutional Networks through Network Slimming. ICCV 2017,
arXiv:1708.06519; but the scales of its norms start at 1, not at 0.5.

Initialised as torchvision and Keras do: convolutions by He et al. (fan out) and linear layers normal with deviation
0.01 in the one, all of them by Glorot and Bengio in the other; biases zero. The CIFAR form as torchvision's.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, adaptive_average_pool, conv, global_average_pool, he_normal, linear, max_pool
from jaxcnn.models.registry import check_images, variant


def layer_name(kind: str, stage: int, index: int) -> str:
    """What the index-th "conv" or "norm" of a stage is called."""
    return f"stem_{kind}" if stage == index == 1 else f"stage{stage}_{kind}{index}"


class VGG(nn.Module):
    """Stages of 3×3 convolutions with max pooling between, and a head of three linear layers, or of one for CIFAR.

    `dropout` follows the two hidden linear layers; in the form for CIFAR, the mean over positions. `freeze_norm` uses the
    running statistics in training too, and keeps them.
    """

    depths: tuple[int, ...]  # convolutions in each stage
    batch_norm: bool
    flavour: Literal["torchvision", "keras", "cifar"]
    num_classes: int = 1000
    dropout: float = 0.5
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or the last maps' means (N, 512) if num_classes is 0."""
        cifar, keras = self.flavour == "cifar", self.flavour == "keras"
        check_images(self, images, at_least=16 if cifar else 32)
        conv_init = nn.initializers.glorot_uniform() if keras else he_normal("fan_out")
        linear_init = nn.initializers.glorot_uniform() if keras else nn.initializers.normal(0.01)
        convolution = partial(conv, size=3, use_bias=not cifar, kernel_init=conv_init, dtype=self.dtype)
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        x = images
        for stage, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                x = convolution(min(64 * 2 ** (stage - 1), 512), name=layer_name("conv", stage, index))(x)
                norm_name = layer_name("norm", stage, index)
                x = norm(name=norm_name, activation=nn.relu)(x) if self.batch_norm else nn.relu(x)
            self.sow("intermediates", f"stage{stage}", x)
            if stage < len(self.depths) or not cifar:
                x = max_pool(x, 2, 2)

        if self.num_classes == 0:
            return global_average_pool(x)
        if cifar:
            x = dropout(global_average_pool(x))
        else:
            x = adaptive_average_pool(x, 7)
            if not keras:
                x = x.transpose(0, 3, 1, 2)  # published weights of fc1 count positions within channels
            x = x.reshape(len(x), -1)
            for name in ("fc1", "fc2"):
                x = dropout(nn.relu(nn.Dense(4096, kernel_init=linear_init, dtype=self.dtype, name=name)(x)))
        head = linear(x.shape[-1], self.num_classes, kernel_init=linear_init, bias_init=nn.initializers.zeros, name="head")
        return head(x.astype(jnp.float32))


A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # the paper's names

vgg = partial(variant, image_size=224, paper="arXiv:1409.1556")
vgg("torchvision/vgg11", VGG, depths=A, batch_norm=False, flavour="torchvision")  # 132.9 M parameters
vgg("torchvision/vgg13", VGG, depths=B, batch_norm=False, flavour="torchvision")  # 133.0 M
vgg("torchvision/vgg16", VGG, depths=D, batch_norm=False, flavour="torchvision")  # 138.4 M
vgg("torchvision/vgg19", VGG, depths=E, batch_norm=False, flavour="torchvision")  # 143.7 M
vgg("torchvision/vgg11_bn", VGG, depths=A, batch_norm=True, flavour="torchvision")
vgg("torchvision/vgg13_bn", VGG, depths=B, batch_norm=True, flavour="torchvision")
vgg("torchvision/vgg16_bn", VGG, depths=D, batch_norm=True, flavour="torchvision")
vgg("torchvision/vgg19_bn", VGG, depths=E, batch_norm=True, flavour="torchvision")
vgg("keras/VGG16", VGG, depths=D, batch_norm=False, flavour="keras", dropout=0.0)
vgg("keras/VGG19", VGG, depths=E, batch_norm=False, flavour="keras", dropout=0.0)

vgg_cifar = partial(variant, image_size=32, paper="arXiv:1409.1556")
vgg_cifar("vgg11_cifar", VGG, depths=A, batch_norm=True, flavour="cifar", num_classes=10, dropout=0.0)  # 9.2 M
vgg_cifar("vgg13_cifar", VGG, depths=B, batch_norm=True, flavour="cifar", num_classes=10, dropout=0.0)  # 9.4 M
vgg_cifar("vgg16_cifar", VGG, depths=D, batch_norm=True, flavour="cifar", num_classes=10, dropout=0.0)  # 14.7 M
vgg_cifar("vgg19_cifar", VGG, depths=E, batch_norm=True, flavour="cifar", num_classes=10, dropout=0.0)  # 20.0 M

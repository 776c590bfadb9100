"""The all convolutional network.

Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity: The All Convolutional Net. ICLR 2015 workshop,
arXiv:1412.6806; tables 1 and 2, for CIFAR. Convolutions with stride 2 replace pooling. A ReLU follows every convolution. The
last one has one map per class, whose mean over positions is the logit. For images of 32×32 the paper's last maps are 6×6, so
the first convolution of the third stage has no padding. Initialized by He et al. (fan in); the paper does not specify it.
"""

import flax.linen as nn
import jax

from jaxcnn.layers import ConvSpec
from jaxcnn.models.nin import HE, NetworkInNetwork
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


class AllCNN(NetworkInNetwork):
    """Three stages; the first two end in a 3×3 convolution with stride 2.

    Dropout is applied to images at the rate `input_dropout`, and after convolutions with stride 2 at `drop_rate` (section 3.1).
    """

    input_dropout: Share = 0.2

    smallest = 9

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 2, W/4 - 2, 192)."""
        dropout, input_dropout = (nn.Dropout(rate, deterministic=not train) for rate in (self.drop_rate, self.input_dropout))
        return self.convolved(dropout, input_dropout(images))

    def pooled(self, x: jax.Array) -> jax.Array:
        """Returns x: convolutions carry the stride instead of pools."""
        return x


def all_cnn(name: str, *sizes: int) -> None:
    """Declares a variant. In its first two stages, convolutions of these sizes precede the one with stride 2."""
    first, second = ((*(ConvSpec(width, size) for size in sizes), ConvSpec(width, 3, 2)) for width in (96, 192))
    variant(name, AllCNN, flavor=HE, stages=(first, second, LAST), image_size=32, paper="arXiv:1412.6806")


LAST = (ConvSpec(192, 3, 1, 0), ConvSpec(192))
all_cnn("all_cnn_a", 5)  # 1.25 M parameters
all_cnn("all_cnn_b", 5, 1)  # 1.30 M
all_cnn("all_cnn_c", 3, 3)  # 1.37 M

"""The all convolutional network.

Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity: The All Convolutional Net. ICLR 2015 workshop,
arXiv:1412.6806; tables 1 and 2, for CIFAR. Convolutions with stride 2 stand where others pool. Every convolution has a
ReLU; the last has a map for each class, whose mean over positions is the logit. The paper's are 6×6 positions of 32×32
images, so the first convolution of the third stage has no padding. Of the initial weights the paper says nothing; here by
He et al. (fan in).
"""

import flax.linen as nn
import jax

from jaxcnn.layers import ConvSpec
from jaxcnn.models.nin import HE, NetworkInNetwork
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


class AllCNN(NetworkInNetwork):
    """Three stages; the first two end in a 3×3 convolution with stride 2.

    `input_dropout` is the dropout rate of the image, `drop_rate` that after each convolution with stride 2 (section 3.1).
    """

    input_dropout: Share = 0.2

    smallest = 9

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 2, W/4 - 2, 192)."""
        behind, before = (nn.Dropout(rate, deterministic=not train) for rate in (self.drop_rate, self.input_dropout))
        return self.convolved(behind, before(images))

    def pooled(self, x: jax.Array) -> jax.Array:
        """As it is: the convolutions stride."""
        return x


def all_cnn(name: str, *sizes: int) -> None:
    """The variant whose first two stages have convolutions of these sizes before the one with stride."""
    first, second = ((*(ConvSpec(width, size) for size in sizes), ConvSpec(width, 3, 2)) for width in (96, 192))
    variant(name, AllCNN, flavour=HE, stages=(first, second, LAST), image_size=32, paper="arXiv:1412.6806")


LAST = (ConvSpec(192, 3, 1, 0), ConvSpec(192))
all_cnn("all_cnn_a", 5)  # 1.25 M parameters
all_cnn("all_cnn_b", 5, 1)  # 1.30 M
all_cnn("all_cnn_c", 3, 3)  # 1.37 M

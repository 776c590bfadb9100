"""AlexNet.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS
2012; sections 3 to 5 and figure 2. Two columns, one a GPU: convolutions 2, 4 and 5 see the maps of their own column
alone, which is a convolution in two groups. The paper's 224×224 images would give 54.25 positions where it has 55;
a padding of 2 gives 55.

`alexnet`: torchvision's, in one column, after Krizhevsky: One weird trick for parallelizing convolutional neural
networks. 2014, arXiv:1404.5997. No response normalisation; initialised as PyTorch's layers are.

Both average maps of another size to 6×6, as torchvision does.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import adaptive_average_pool, conv, global_average_pool, max_pool, uniform
from jaxcnn.models.network import TORCHVISION, ZEROS, Flavour, Network
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


class AlexNet(Network):
    """torchvision's; `drop_rate` is of the dropout before each of the two hidden linear layers."""

    drop_rate: Share = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 63

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 256)."""

        def convolved(x, features, size, name, **options):
            init = uniform((size * size * x.shape[-1]) ** -0.5)
            options |= {"use_bias": True, "kernel_init": init, "bias_init": init, "dtype": self.dtype}
            return nn.relu(conv(features, size, **options, name=name)(x))

        x = convolved(images, 64, 11, "stem_conv", stride=4, padding=2)
        self.sow("intermediates", "stage1", x)
        x = convolved(max_pool(x, 3, 2), 192, 5, "conv2")
        self.sow("intermediates", "stage2", x)
        x = convolved(max_pool(x, 3, 2), 384, 3, "conv3")
        x = convolved(x, 256, 3, "conv4")
        x = convolved(x, 256, 3, "conv5")
        self.sow("intermediates", "stage3", x)
        return max_pool(x, 3, 2)

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/32, W/32, 256) -> (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        dropout = nn.Dropout(self.drop_rate, deterministic=not train)
        x = flat(x)
        for name in ("fc6", "fc7"):
            x = nn.relu(self.flavour.linear(x.shape[-1], 4096, name, self.dtype)(dropout(x)))
        return self.flavour.linear(4096, self.num_classes, "head")(x.astype(jnp.float32))


def flat(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, C·6·6): positions within channels, as published weights count them."""
    return adaptive_average_pool(x, 6).transpose(0, 3, 1, 2).reshape(len(x), -1)


class AlexNet2012(AlexNet):
    """The paper's; `drop_rate` is of the dropout behind each of the two hidden linear layers (section 4.2).

    Starts with weights of deviation 0.01, and with biases of 1 where the paper has them, so that ReLUs see positive
    inputs at first (section 5).
    """

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 256)."""
        conv, _ = self.layers(train)
        x = nn.relu(conv(96, 11, 4, padding=2, name="stem_conv")(images))
        self.sow("intermediates", "stage1", x)
        x = max_pool(local_response_norm(x), 3, 2)
        x = nn.relu(conv(256, 5, groups=2, bias_init=ONES, name="conv2")(x))
        self.sow("intermediates", "stage2", x)
        x = max_pool(local_response_norm(x), 3, 2)
        x = nn.relu(conv(384, 3, name="conv3")(x))
        x = nn.relu(conv(384, 3, groups=2, bias_init=ONES, name="conv4")(x))
        x = nn.relu(conv(256, 3, groups=2, bias_init=ONES, name="conv5")(x))
        self.sow("intermediates", "stage3", x)
        return max_pool(x, 3, 2)

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/32, W/32, 256) -> (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        dropout, hidden = nn.Dropout(self.drop_rate, deterministic=not train), self.flavour._replace(head_bias_init=ONES)
        x = flat(x)
        for name in ("fc6", "fc7"):
            x = dropout(nn.relu(hidden.linear(x.shape[-1], 4096, name, self.dtype)(x)))
        return self.flavour.linear(4096, self.num_classes, "head")(x.astype(jnp.float32))


def local_response_norm(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, C): each activity over (2 + 1e-4 · squares of the 5 maps around it)^0.75 (section 3.3).

    1e-4 is of the sum, as the paper says; cuda-convnet, Caffe and PyTorch take it of the mean.
    """
    squares = jnp.square(x.astype(jnp.float32))
    zero = np.zeros((), np.float32)  # a constant: only as such does JAX see a sum, which it can differentiate
    sums = jax.lax.reduce_window(squares, zero, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (2, 2)))
    return x * ((2 + 1e-4 * sums) ** -0.75).astype(x.dtype)


ONES, NORMAL = nn.initializers.ones, nn.initializers.normal(0.01)
PAPER = Flavour(NORMAL, head_init=NORMAL, head_bias_init=ZEROS, conv_bias=True)
variant("torchvision/alexnet", AlexNet, flavour=TORCHVISION, image_size=224, paper="arXiv:1404.5997")  # 61.1 M parameters
variant("alexnet_2012", AlexNet2012, flavour=PAPER, image_size=224, paper="Krizhevsky et al. 2012")  # 60.97 M

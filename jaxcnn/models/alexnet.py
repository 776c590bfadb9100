"""AlexNet.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS
2012; sections 3 to 5 and figure 2. The network has two columns, one per GPU. Convolutions 2, 4 and 5 use only the maps of
the same column, which makes them convolutions with two groups. Images of 224×224 would result in 54.25 positions after the
first convolution, where the paper has 55; a padding of 2 results in 55.

`alexnet`: torchvision's network with one column, after Krizhevsky: One weird trick for parallelizing convolutional neural
networks. 2014, arXiv:1404.5997. It has no response normalization and PyTorch's default initialization.

Both average maps of another size to 6×6, as torchvision does.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import adaptive_average_pool, conv, global_average_pool, max_pool, uniform
from jaxcnn.models.network import TORCHVISION, ZEROS, Flavor, Network
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


class AlexNet(Network):
    """torchvision's AlexNet. Dropout is applied before each of the two hidden linear layers."""

    drop_rate: Share = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 63

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 256)."""

        def conv_relu(x, features, size, name, **options):
            init = uniform((size * size * x.shape[-1]) ** -0.5)
            options |= {"use_bias": True, "kernel_init": init, "bias_init": init, "dtype": self.dtype}
            return nn.relu(conv(features, size, **options, name=name)(x))

        x = conv_relu(images, 64, 11, "stem_conv", stride=4, padding=2)
        self.sow("intermediates", "stage1", x)
        x = conv_relu(max_pool(x, 3, 2), 192, 5, "conv2")
        self.sow("intermediates", "stage2", x)
        x = conv_relu(max_pool(x, 3, 2), 384, 3, "conv3")
        x = conv_relu(x, 256, 3, "conv4")
        x = conv_relu(x, 256, 3, "conv5")
        self.sow("intermediates", "stage3", x)
        return max_pool(x, 3, 2)

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/32, W/32, 256) -> (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        dropout = nn.Dropout(self.drop_rate, deterministic=not train)
        x = flat(x)
        for name in ("fc6", "fc7"):
            x = nn.relu(self.flavor.linear(x.shape[-1], 4096, name, self.dtype)(dropout(x)))
        return self.flavor.linear(4096, self.num_classes, "head")(x.astype(jnp.float32))


def flat(x: jax.Array) -> jax.Array:
    """Averages to 6×6 and flattens with positions varying fastest, as in published weights: (N, H, W, C) -> (N, C·36)."""
    return adaptive_average_pool(x, 6).transpose(0, 3, 1, 2).reshape(len(x), -1)


class AlexNet2012(AlexNet):
    """The paper's AlexNet. Dropout follows each of the two hidden linear layers (section 4.2).

    Weights are initialized with σ = 0.01, and some biases with 1, so that ReLUs initially have positive inputs (section 5).
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
        dropout, hidden = nn.Dropout(self.drop_rate, deterministic=not train), self.flavor._replace(head_bias_init=ONES)
        x = flat(x)
        for name in ("fc6", "fc7"):
            x = dropout(nn.relu(hidden.linear(x.shape[-1], 4096, name, self.dtype)(x)))
        return self.flavor.linear(4096, self.num_classes, "head")(x.astype(jnp.float32))


def local_response_norm(x: jax.Array) -> jax.Array:
    """Divides each activation by (2 + 1e-4 · sum of squares in 5 adjacent maps)^0.75 (section 3.3): (N, H, W, C) -> same.

    The factor 1e-4 multiplies the sum, as in the paper. In cuda-convnet, Caffe and PyTorch it multiplies the mean.
    """
    squares = jnp.square(x.astype(jnp.float32))
    zero = np.zeros((), np.float32)  # a concrete zero, for which JAX recognizes a sum, which is differentiable
    sums = jax.lax.reduce_window(squares, zero, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (2, 2)))
    return x * ((2 + 1e-4 * sums) ** -0.75).astype(x.dtype)


ONES, NORMAL = nn.initializers.ones, nn.initializers.normal(0.01)
PAPER = Flavor(NORMAL, head_init=NORMAL, head_bias_init=ZEROS, conv_bias=True)
variant("torchvision/alexnet", AlexNet, flavor=TORCHVISION, image_size=224, paper="arXiv:1404.5997")  # 61.1 M parameters
variant("alexnet_2012", AlexNet2012, flavor=PAPER, image_size=224, paper="Krizhevsky et al. 2012")  # 60.97 M

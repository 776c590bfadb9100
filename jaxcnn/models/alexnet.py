"""AlexNet.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS
2012; sections 3 to 5 and figure 2. Two columns, one a GPU: convolutions 2, 4 and 5 see the maps of their own column
alone, which is a convolution in two groups. The paper's 224×224 images would give 54.25 positions where it has 55;
a padding of 2 gives 55.

`alexnet`: torchvision's, in one column, after Krizhevsky: One weird trick for parallelizing convolutional neural
networks. 2014, arXiv:1404.5997. No response normalisation; initialised as PyTorch's layers are.

Both average maps of another size to 6×6, as torchvision does.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import adaptive_average_pool, conv, global_average_pool, max_pool, uniform
from jaxcnn.models.network import ZEROS, Network
from jaxcnn.models.registry import variant

STEM: dict[str, Any] = {"stride": 4, "padding": 2}


class AlexNet(Network):
    """torchvision's; `drop_rate` is of the dropout before each of the two hidden linear layers."""

    drop_rate: float = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 63
    filters: ClassVar[dict[str, int]] = {"stem_conv": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256}
    grouped: ClassVar[tuple[str, ...]] = ()

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, 256)."""
        x = images
        for (name, filters), size in zip(self.filters.items(), (11, 5, 3, 3, 3), strict=True):
            options = STEM if name == "stem_conv" else {"groups": 2 if name in self.grouped else 1}
            initial = self.initial(name, size * size * x.shape[-1])
            x = nn.relu(conv(filters, size, use_bias=True, dtype=self.dtype, name=name, **options, **initial)(x))
            if name in ("stem_conv", "conv2"):
                self.sow("intermediates", "stage1" if name == "stem_conv" else "stage2", x)
                x = max_pool(self.normalized(x), 3, 2)
        self.sow("intermediates", "stage3", x)
        return max_pool(x, 3, 2)

    def normalized(self, x: jax.Array) -> jax.Array:
        """What is pooled of the first two convolutions: (N, H, W, C) -> (N, H, W, C)."""
        return x

    def initial(self, name: str, inputs: int) -> dict[str, Any]:
        """The initializers of a layer whose units have so many inputs."""
        return {"kernel_init": uniform(inputs**-0.5), "bias_init": uniform(inputs**-0.5)}

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/32, W/32, 256) -> (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        x = adaptive_average_pool(x, 6).transpose(0, 3, 1, 2).reshape(len(x), -1)  # as published weights of fc6 count
        dropout = nn.Dropout(self.drop_rate, deterministic=not train)
        for name in ("fc6", "fc7"):
            x = self.hidden(nn.Dense(4096, dtype=self.dtype, name=name, **self.initial(name, x.shape[-1])), dropout, x)
        return nn.Dense(self.num_classes, name="head", **self.initial("head", 4096))(x.astype(jnp.float32))

    def hidden(self, layer: nn.Dense, dropout: nn.Dropout, x: jax.Array) -> jax.Array:
        """A hidden layer: (N, F) -> (N, 4096)."""
        return nn.relu(layer(dropout(x)))


class AlexNet2012(AlexNet):
    """The paper's; `drop_rate` is of the dropout behind each of the two hidden linear layers (section 4.2).

    Starts with weights of deviation 0.01, and with biases of 1 where the paper has them, so that ReLUs see positive
    inputs at first (section 5).
    """

    filters: ClassVar = {"stem_conv": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
    grouped = ("conv2", "conv4", "conv5")

    def normalized(self, x: jax.Array) -> jax.Array:
        """What is pooled of the first two convolutions: (N, H, W, C) -> (N, H, W, C)."""
        return local_response_norm(x)

    def initial(self, name: str, inputs: int) -> dict[str, Any]:
        """The initializers of a layer whose units have so many inputs."""
        ones = name in (*self.grouped, "fc6", "fc7")
        return {"kernel_init": nn.initializers.normal(0.01), "bias_init": nn.initializers.ones if ones else ZEROS}

    def hidden(self, layer: nn.Dense, dropout: nn.Dropout, x: jax.Array) -> jax.Array:
        """A hidden layer: (N, F) -> (N, 4096)."""
        return dropout(nn.relu(layer(x)))


def local_response_norm(x: jax.Array) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, C): each activity over (2 + 1e-4 · squares of the 5 maps around it)^0.75 (section 3.3).

    1e-4 is of the sum, as the paper says; cuda-convnet, Caffe and PyTorch take it of the mean.
    """
    squares = jnp.square(x.astype(jnp.float32))
    zero = np.zeros((), np.float32)  # a constant: only as such does JAX see a sum, which it can differentiate
    sums = jax.lax.reduce_window(squares, zero, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), (2, 2)))
    return x * ((2 + 1e-4 * sums) ** -0.75).astype(x.dtype)


variant("torchvision/alexnet", AlexNet, image_size=224, paper="arXiv:1404.5997")  # 61.1 M parameters
variant("alexnet_2012", AlexNet2012, image_size=224, paper="Krizhevsky et al. 2012")  # 60.97 M

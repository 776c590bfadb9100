"""AlexNet.

`alexnet_2012`: Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS
2012; sections 3 to 5 and figure 2. Two columns, one a GPU: convolutions 2, 4 and 5 see the maps of their own column
alone, which is a convolution in two groups. The paper's 224×224 images would give 54.25 positions where it has 55;
a padding of 2 gives 55.

`alexnet`: torchvision's, in one column, after Krizhevsky: One weird trick for parallelizing convolutional neural
networks. 2014, arXiv:1404.5997. No response normalisation; initialised as PyTorch's layers are.

Both average maps of another size to 6×6, as torchvision does.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import adaptive_average_pool, conv, global_average_pool, linear, max_pool, uniform
from jaxcnn.models.registry import check_images, variant


class AlexNet(nn.Module):
    """torchvision's; `dropout` precedes the two hidden linear layers."""

    num_classes: int = 1000
    dropout: float = 0.5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 63×63 -> logits (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        check_images(self, images, at_least=63)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        def convolution(x, features, size, name, **options):
            init = uniform((size * size * x.shape[-1]) ** -0.5)
            options |= {"use_bias": True, "kernel_init": init, "bias_init": init, "dtype": self.dtype}
            return nn.relu(conv(features, size, **options, name=name)(x))

        x = convolution(images, 64, 11, "stem_conv", stride=4, padding=2)
        self.sow("intermediates", "stage1", x)
        x = convolution(max_pool(x, 3, 2), 192, 5, "conv2")
        self.sow("intermediates", "stage2", x)
        x = convolution(max_pool(x, 3, 2), 384, 3, "conv3")
        x = convolution(x, 256, 3, "conv4")
        x = convolution(x, 256, 3, "conv5")
        self.sow("intermediates", "stage3", x)
        x = max_pool(x, 3, 2)

        if self.num_classes == 0:
            return global_average_pool(x)
        x = _flat(x)
        for name in ("fc6", "fc7"):
            init = uniform(x.shape[-1] ** -0.5)
            layer = nn.Dense(4096, kernel_init=init, bias_init=init, dtype=self.dtype, name=name)
            x = nn.relu(layer(dropout(x)))
        return linear(4096, self.num_classes, name="head")(x.astype(jnp.float32))


def _flat(x):
    """(N, H, W, C) -> (N, C·6·6): positions within channels, as published weights count them."""
    return adaptive_average_pool(x, 6).transpose(0, 3, 1, 2).reshape(len(x), -1)


class AlexNet2012(nn.Module):
    """The paper's; `dropout` follows the two hidden linear layers (section 4.2).

    Starts with weights of deviation 0.01, and with biases of 1 where the paper has them, so that ReLUs see positive
    inputs at first (section 5).
    """

    num_classes: int = 1000
    dropout: float = 0.5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 63×63 -> logits (N, num_classes) float32, or (N, 256) if num_classes is 0."""
        check_images(self, images, at_least=63)
        init, ones = nn.initializers.normal(0.01), nn.initializers.ones
        convolution = partial(conv, use_bias=True, kernel_init=init, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        x = nn.relu(convolution(96, 11, 4, padding=2, name="stem_conv")(images))
        self.sow("intermediates", "stage1", x)
        x = max_pool(local_response_norm(x), 3, 2)
        x = nn.relu(convolution(256, 5, groups=2, bias_init=ones, name="conv2")(x))
        self.sow("intermediates", "stage2", x)
        x = max_pool(local_response_norm(x), 3, 2)
        x = nn.relu(convolution(384, 3, name="conv3")(x))
        x = nn.relu(convolution(384, 3, groups=2, bias_init=ones, name="conv4")(x))
        x = nn.relu(convolution(256, 3, groups=2, bias_init=ones, name="conv5")(x))
        self.sow("intermediates", "stage3", x)
        x = max_pool(x, 3, 2)

        if self.num_classes == 0:
            return global_average_pool(x)
        x = _flat(x)
        for name in ("fc6", "fc7"):
            x = dropout(nn.relu(nn.Dense(4096, kernel_init=init, bias_init=ones, dtype=self.dtype, name=name)(x)))
        head = linear(4096, self.num_classes, kernel_init=init, bias_init=nn.initializers.zeros, name="head")
        return head(x.astype(jnp.float32))


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

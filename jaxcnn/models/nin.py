"""Network in Network.

Lin, Chen, Yan: Network In Network. ICLR 2014, arXiv:1312.4400; figure 2, and the filters of the authors' published
network for CIFAR-10. Three times a convolution and two 1×1 convolutions on top, with max pooling and dropout between;
the last of them has a map for each class, whose mean over positions is the logit. Every convolution has a ReLU, the last
too (equation 2). The paper says of the initial weights only that they were set by hand; here by He et al. (fan in).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, global_average_pool, he_normal, max_pool
from jaxcnn.models.registry import check_images, variant


class NetworkInNetwork(nn.Module):
    """The network for CIFAR; `dropout` follows the first two stages."""

    num_classes: int = 10
    dropout: float = 0.5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 4×4 -> logits (N, num_classes) float32, or (N, 192) if num_classes is 0."""
        check_images(self, images, at_least=4)
        convolution = partial(conv, use_bias=True, kernel_init=he_normal("fan_in"))
        hidden = partial(convolution, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        x = nn.relu(hidden(192, 5, name="stem_conv")(images))
        x = nn.relu(hidden(160, 1, name="stage1_conv2")(x))
        x = nn.relu(hidden(96, 1, name="stage1_conv3")(x))
        self.sow("intermediates", "stage1", x)
        x = dropout(max_pool(x, 3, 2, ceil_mode=True))  # half the size, rounded up, as in cuda-convnet

        x = nn.relu(hidden(192, 5, name="stage2_conv1")(x))
        x = nn.relu(hidden(192, 1, name="stage2_conv2")(x))
        x = nn.relu(hidden(192, 1, name="stage2_conv3")(x))
        self.sow("intermediates", "stage2", x)
        x = dropout(max_pool(x, 3, 2, ceil_mode=True))

        x = nn.relu(hidden(192, 3, name="stage3_conv1")(x))
        x = nn.relu(hidden(192, 1, name="stage3_conv2")(x))
        self.sow("intermediates", "stage3", x)
        if self.num_classes == 0:
            return global_average_pool(x)
        x = nn.relu(convolution(self.num_classes, 1, name="head")(x.astype(jnp.float32)))
        return global_average_pool(x)


variant("nin", NetworkInNetwork, image_size=32, paper="arXiv:1312.4400")  # 0.97 M parameters

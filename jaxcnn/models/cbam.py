"""Residual networks with CBAM.

Woo, Park, Lee, Kweon: CBAM: Convolutional Block Attention Module. ECCV 2018, arXiv:1807.06521; figures 2 and 3.
The blocks are torchvision's, with the gates before the addition of the shortcut. As in the authors' code, the two layers of the
channel gate have biases, and batch norm with an initial scale of 0 follows the convolution of the spatial gate.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, global_max_pool, largest, linear
from jaxcnn.models.network import TORCHVISION
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet import BasicBlock, Bottleneck, ResNet


class CBAM(nn.Module):
    """Multiplies each channel, then each position, by a gate computed from its means and maxima."""

    features: int
    norm: Callable
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        reduce = linear(self.features, self.features // 16, name="channel_reduce")
        expand = linear(self.features // 16, self.features, name="channel_expand")
        x32 = x.astype(jnp.float32)
        gate = nn.sigmoid(sum(expand(nn.relu(reduce(pooled))) for pooled in (x32.mean((1, 2)), global_max_pool(x32))))
        x = x * gate.astype(self.dtype).reshape(-1, 1, 1, self.features)

        x32 = x.astype(jnp.float32)
        pooled = jnp.stack([largest(x32, -1), x32.mean(-1)], axis=-1).astype(self.dtype)
        y = conv(1, 7, dtype=self.dtype, name="spatial_conv")(pooled)
        return x * nn.sigmoid(self.norm(momentum=0.01, scale_init=nn.initializers.zeros, name="spatial_norm")(y))


cbam = partial(variant, module=ResNet, flavor=TORCHVISION, image_size=224, paper="arXiv:1807.06521")
cbam("cbam_resnet18", depths=(2, 2, 2, 2), block=partial(BasicBlock, attention=CBAM))  # 11.8 M parameters
cbam("cbam_resnet50", depths=(3, 4, 6, 3), block=partial(Bottleneck, attention=CBAM))  # 28.1 M
cbam("cbam_resnet101", depths=(3, 4, 23, 3), block=partial(Bottleneck, attention=CBAM))  # 49.3 M

"""Residual networks with CBAM.

Woo, Park, Lee, Kweon: CBAM: Convolutional Block Attention Module. ECCV 2018, arXiv:1807.06521; figures 2 and 3.
The blocks are torchvision's; the gates stand before the shortcut is added. As in the authors' code, the two layers of the
channel gate have biases, and the spatial gate's convolution is normalised, by a scale that starts at 0.
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
    """Each channel times a gate from its mean and its maximum, then each position times one from its own."""

    features: int
    norm: Callable
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        reduce = linear(self.features, self.features // 16, name="channel_reduce")
        expand = linear(self.features // 16, self.features, name="channel_expand")
        wide = x.astype(jnp.float32)
        gate = nn.sigmoid(sum(expand(nn.relu(reduce(pooled))) for pooled in (wide.mean((1, 2)), global_max_pool(wide))))
        x = x * gate.astype(self.dtype).reshape(-1, 1, 1, self.features)

        wide = x.astype(jnp.float32)
        pooled = jnp.stack([largest(wide, -1), wide.mean(-1)], axis=-1).astype(self.dtype)
        y = conv(1, 7, dtype=self.dtype, name="spatial_conv")(pooled)
        return x * nn.sigmoid(self.norm(momentum=0.01, scale_init=nn.initializers.zeros, name="spatial_norm")(y))


cbam = partial(variant, module=ResNet, flavour=TORCHVISION, image_size=224, paper="arXiv:1807.06521")
cbam("cbam_resnet18", depths=(2, 2, 2, 2), block=partial(BasicBlock, attention=CBAM))  # 11.8 M parameters
cbam("cbam_resnet50", depths=(3, 4, 6, 3), block=partial(Bottleneck, attention=CBAM))  # 28.1 M
cbam("cbam_resnet101", depths=(3, 4, 23, 3), block=partial(Bottleneck, attention=CBAM))  # 49.3 M

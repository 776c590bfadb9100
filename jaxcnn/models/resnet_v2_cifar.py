"""Pre-activation residual networks for CIFAR, and Wide Residual Networks.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027; section 3 and table 4:
`preact_resnet110` of blocks of two 3×3 convolutions and shortcuts without parameters, `preact_resnet164` and `1001` of
bottlenecks with projected shortcuts where the width changes, as in the authors' code.
Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv:1605.07146; table 1: `wrn_28_10` has 28 layers and is 10 times
as wide; dropout, if any, stands between a block's two convolutions (the paper's rate is 0.3).

A 3×3 convolution, three stages, norm and ReLU, global average pool, linear head. As the papers' codes do it, convolutions
start by He et al. (fan out, and fan in for the wide ones), the head uniform, biases zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jaxcnn.layers import StochasticDepth, he_normal
from jaxcnn.models.network import TORCHVISION, ZEROS, Striding
from jaxcnn.models.resnet_cifar import CifarResNet, cifar, padded_shortcut
from jaxcnn.models.resnet_v2 import PreActBottleneck


class PreActBlock(nn.Module):
    """Two 3×3 convolutions, norm and ReLU before each, and the shortcut around them."""

    filters: int
    striding: Striding
    drop_rate: float | jax.Array  # of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable
    activated: bool = False  # norm and ReLU are behind the input already
    project: bool = False
    dropout: float = 0.0  # 0 in evaluation

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        activated = x if self.activated else self.norm(name="norm1", activation=nn.relu)(x)
        y = self.conv(self.filters, 3, self.striding.stride, name="conv1")(activated)
        y = self.norm(name="norm2", activation=nn.relu)(y)
        y = nn.Dropout(self.dropout, deterministic=False)(y)
        y = self.conv(self.filters, 3, name="conv2")(y)
        y = StochasticDepth(self.drop_rate)(y, train=True)
        return y + self.shortcut(x, activated)

    def shortcut(self, x, activated):
        """Where the number of channels changes a projection, if asked for; else without parameters."""
        if self.project and x.shape[-1] != self.filters:
            return self.conv(self.filters, 1, self.striding.stride, name="shortcut_conv")(activated)
        return padded_shortcut(x, self.filters, self.striding.stride)


class PreActCifarResNet(CifarResNet):
    """Norm and ReLU stand before the convolutions; the first ones right after the stem."""

    pre_activation = True


class WideResNet(PreActCifarResNet):
    """The same with dropout between the convolutions of a block, at the rate `drop_rate`."""

    head_dropout = False

    def block_options(self, train: bool) -> dict[str, Any]:
        """Arguments of every block."""
        return {"dropout": self.drop_rate if train else 0.0}


PREACT = TORCHVISION._replace(head_bias_init=ZEROS)
bottleneck = partial(PreActBottleneck, stride_first=True)
preact = partial(cifar, module=PreActCifarResNet, flavour=PREACT, paper="arXiv:1603.05027")
preact("preact_resnet110", depth=18, block=PreActBlock)  # 1.7 M parameters
preact("preact_resnet164", depth=18, block=bottleneck)  # 1.7 M
preact("preact_resnet1001", depth=111, block=bottleneck, scan=True)  # 10.3 M

WIDE = PREACT._replace(kernel_init=he_normal("fan_in"))
wide = partial(PreActBlock, project=True)
wrn = partial(cifar, module=WideResNet, flavour=WIDE, block=wide, paper="arXiv:1605.07146")
wrn("wrn_16_4", depth=2, filters=(64, 128, 256))  # 2.7 M
wrn("wrn_40_4", depth=6, filters=(64, 128, 256))  # 8.9 M
wrn("wrn_16_8", depth=2, filters=(128, 256, 512))  # 11.0 M
wrn("wrn_28_10", depth=4, filters=(160, 320, 640))  # 36.5 M

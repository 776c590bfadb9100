"""Pre-activation residual networks for CIFAR, and Wide Residual Networks.

He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks. ECCV 2016, arXiv:1603.05027; section 3 and table 4:
`preact_resnet110` has blocks of two 3×3 convolutions and shortcuts without parameters, `preact_resnet164` and
`preact_resnet1001` have bottlenecks with projection shortcuts if the width changes, as in the authors' code.
Zagoruyko, Komodakis: Wide Residual Networks. BMVC 2016, arXiv:1605.07146; table 1: `wrn_28_10` has 28 layers and
10 times the width. Dropout, if any, is applied between the two convolutions of a block (rate 0.3 in the paper).

A network consists of a 3×3 convolution, three stages, norm and ReLU, global average pool and a linear head. As in the authors'
code, convolutions are initialized by He et al. (fan out; fan in for wide networks), the head uniformly, biases with zero.
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
    """Two 3×3 convolutions, each after norm and ReLU, and a shortcut."""

    filters: int
    striding: Striding
    drop_rate: float | jax.Array  # rate of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable
    activated: bool = False  # the input has passed norm and ReLU already
    project: bool = False  # shortcuts are projections if the number of channels changes
    dropout: float = 0.0  # rate between the convolutions; 0 in evaluation

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
        """Returns a projection if `project` is set and the width changes, or else a shortcut without parameters."""
        if self.project and x.shape[-1] != self.filters:
            return self.conv(self.filters, 1, self.striding.stride, name="shortcut_conv")(activated)
        return padded_shortcut(x, self.filters, self.striding.stride)


class PreActCifarResNet(CifarResNet):
    """A CifarResNet with norm and ReLU before the convolutions. The first ones follow the stem."""

    pre_activation = True


class WideResNet(PreActCifarResNet):
    """A PreActCifarResNet with dropout between the convolutions of a block, at the rate `drop_rate`."""

    head_dropout = False

    def block_options(self, train: bool) -> dict[str, Any]:
        """Returns further arguments of every block."""
        return {"dropout": self.drop_rate if train else 0.0}


PREACT = TORCHVISION._replace(head_bias_init=ZEROS)
bottleneck = partial(PreActBottleneck, stride_first=True)
preact = partial(cifar, module=PreActCifarResNet, flavor=PREACT, paper="arXiv:1603.05027")
preact("preact_resnet110", depth=18, block=PreActBlock)  # 1.7 M parameters
preact("preact_resnet164", depth=18, block=bottleneck)  # 1.7 M
preact("preact_resnet1001", depth=111, block=bottleneck, scan=True)  # 10.3 M

WIDE = PREACT._replace(kernel_init=he_normal("fan_in"))
wide = partial(PreActBlock, project=True)
wrn = partial(cifar, module=WideResNet, flavor=WIDE, block=wide, paper="arXiv:1605.07146")
wrn("wrn_16_4", depth=2, filters=(64, 128, 256))  # 2.7 M
wrn("wrn_40_4", depth=6, filters=(64, 128, 256))  # 8.9 M
wrn("wrn_16_8", depth=2, filters=(128, 256, 512))  # 11.0 M
wrn("wrn_28_10", depth=4, filters=(160, 320, 640))  # 36.5 M

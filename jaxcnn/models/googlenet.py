"""GoogLeNet.

Szegedy, Liu, Jia et al.: Going Deeper with Convolutions. CVPR 2015, arXiv:1409.4842; table 1.
As in torchvision, batch norm follows each convolution, where the paper has two local response normalizations, and kernels are
3×3 where the paper has 5×5 (a mistake in TensorFlow's released weights, from which torchvision's were converted). torchvision's
count of 6.6 M parameters excludes the auxiliary heads. Initialized as in torchvision: all kernels normal, σ = 0.01.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxcnn.layers import ConvSpec, PoolSpec, adaptive_average_pool
from jaxcnn.layers.branches import LayerSpecs
from jaxcnn.models.inception import AuxiliaryInception
from jaxcnn.models.network import TORCHVISION, Flavor
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


def inception(ones: int, reduce3: int, threes: int, reduce5: int, fives: int, pooled: int) -> tuple:
    """A row of table 1 (figure 2b). The branch `fives` has 3×3 kernels, see above."""
    return (
        (ConvSpec(ones),),
        (ConvSpec(reduce3), ConvSpec(threes, 3)),
        (ConvSpec(reduce5), ConvSpec(fives, 3)),
        (PoolSpec("max"), ConvSpec(pooled)),
    )


POOL = PoolSpec("max", stride=2, padding=0, ceil_mode=True)


class AuxiliaryHead(nn.Module):
    """A classifier of intermediate features, which improves the gradients of the first layers (section 5 of the paper)."""

    num_classes: int
    drop_rate: float  # of dropout; 0 in evaluation
    flavor: Flavor
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, num_classes) float32."""
        x = adaptive_average_pool(x, 4)
        x = self.norm(name="norm", activation=nn.relu)(self.conv(128, 1, name="conv")(x))
        x = x.astype(jnp.float32).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # flattened in torchvision's order
        x = nn.relu(self.flavor.linear(x.shape[-1], 1024, name="fc1")(x))
        x = nn.Dropout(self.drop_rate, deterministic=False)(x)
        return self.flavor.linear(1024, self.num_classes, name="fc2")(x)


class GoogLeNet(AuxiliaryInception):
    """Nine inception modules and two auxiliary heads with dropout at the rate `dropout_aux`.

    The "small" stem preserves the resolution of images of about 32×32: its convolutions have stride 1 and there is no pooling.
    """

    drop_rate: Share = 0.2
    dropout_aux: Share = 0.7
    stem: Literal["imagenet", "small"] = "imagenet"

    heads: ClassVar = {"inception4a": "aux1", "inception4d": "aux2"}
    stages = (
        {"inception3a": inception(64, 96, 128, 16, 32, 32), "inception3b": inception(128, 128, 192, 32, 96, 64)},
        {
            "pool4": ((POOL,),),
            "inception4a": inception(192, 96, 208, 16, 48, 64),
            "inception4b": inception(160, 112, 224, 24, 64, 64),
            "inception4c": inception(128, 128, 256, 24, 64, 64),
            "inception4d": inception(112, 144, 288, 32, 64, 64),
            "inception4e": inception(256, 160, 320, 32, 128, 128),
        },
        {
            "pool5": ((POOL._replace(size=2),),),
            "inception5a": inception(256, 160, 320, 32, 128, 128),
            "inception5b": inception(384, 192, 384, 48, 128, 128),
        },
    )

    @property
    def smallest(self) -> int:
        """The minimum height and width of images."""
        return 15 if self.stem == "imagenet" else 2

    @property
    def stem_specs(self) -> LayerSpecs:
        """The layers of the stem."""
        if self.stem == "small":
            return ConvSpec(64, 3), ConvSpec(64), ConvSpec(192, 3)
        return ConvSpec(64, 7, 2), POOL, ConvSpec(64), ConvSpec(192, 3), POOL

    def auxiliary(self, train: bool, name: str) -> nn.Module:
        """Returns an auxiliary head (N, H, W, C) -> (N, num_classes) float32."""
        rate = self.dropout_aux if train else 0.0
        return AuxiliaryHead(self.num_classes, rate, self.flavor, *self.layers(train), name=name)


normal = nn.initializers.normal(0.01)
flavor = TORCHVISION._replace(kernel_init=normal, head_init=normal, epsilon=1e-3)
# 13.0 M parameters, 6.6 M without the auxiliary heads
variant("torchvision/googlenet", GoogLeNet, flavor=flavor, count_padding=True, image_size=224, paper="arXiv:1409.4842")

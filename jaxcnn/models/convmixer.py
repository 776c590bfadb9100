"""ConvMixer.

Trockman, Kolter: Patches Are All You Need? TMLR 2023, arXiv:2201.09792; figure 2 and section 2. A patch
embedding is followed by equal blocks, which mix positions and channels in turn. The norm follows the activation. Initialized
with PyTorch's defaults.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from jaxcnn.layers import Activation, StochasticDepth, uniform
from jaxcnn.models.network import PYTORCH, Network
from jaxcnn.models.registry import variant


class Block(nn.Module):
    """Depthwise convolution with a shortcut, then a 1×1 convolution. Activation and norm follow each convolution."""

    kernel: int
    activation: Activation
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        width = x.shape[-1]
        y = self.conv(width, self.kernel, groups=width, bias_init=uniform(1 / self.kernel), name="depthwise_conv")(x)
        y = self.norm(name="depthwise_norm")(self.activation(y))
        x = x + StochasticDepth(self.drop_rate)(y, train=True)
        y = self.conv(width, 1, bias_init=uniform(width**-0.5), name="pointwise_conv")(x)
        return self.norm(name="pointwise_norm")(self.activation(y))


class ConvMixer(Network, kw_only=True):
    """Patch embedding, `depth` blocks, global average pool, linear head. The first block has no stochastic depth."""

    width: int
    depth: int
    kernel: int  # size of the depthwise convolutions
    patch: int  # height and width of a patch, which is the network's stride
    activation: Activation

    @property
    def smallest(self) -> int:
        """The minimum height and width of images: one patch."""
        return self.patch

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/patch, W/patch, width)."""
        conv, norm = self.layers(train)
        bound = (self.patch**2 * images.shape[-1]) ** -0.5
        x = conv(self.width, self.patch, self.patch, padding=0, bias_init=uniform(bound), name="stem_conv")(images)
        x = norm(name="stem_norm")(self.activation(x))
        self.sow("intermediates", "stem", x)
        for index, rate in enumerate(self.drop_path_rates(self.depth, train), start=1):
            x = self.run(Block(self.kernel, self.activation, rate, conv, norm, name=f"stage1_block{index}"), x)
        self.sow("intermediates", "stage1", x)
        return x


gelu = partial(nn.gelu, approximate=False)
flavor = PYTORCH._replace(conv_bias=True)
convmixer = partial(variant, module=ConvMixer, flavor=flavor, activation=gelu, image_size=224, paper="arXiv:2201.09792")
convmixer("timm/convmixer_768_32", width=768, depth=32, kernel=7, patch=7, activation=nn.relu)  # 21.1 M parameters
convmixer("timm/convmixer_1024_20_ks9_p14", width=1024, depth=20, kernel=9, patch=14)  # 24.4 M
convmixer("timm/convmixer_1536_20", width=1536, depth=20, kernel=9, patch=7)  # 51.6 M

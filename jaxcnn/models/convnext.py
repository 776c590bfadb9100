"""ConvNeXt and ConvNeXt V2.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s. CVPR 2022, arXiv:2201.03545; figure 4.
Woo, Debnath, Hu, Chen, Liu, Kweon, Xie: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders. CVPR
2023, arXiv:2301.00808; section 3 and algorithm 1.

Kernels are initialized from a normal distribution, σ = 0.02, as in the authors' code, which truncates it at ±2 = 100 σ. Keras's
are initialized by Glorot.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import LayerNorm, StochasticDepth, global_average_pool, recomputed
from jaxcnn.models.network import KERAS, ZEROS, Flavor, Network, stridings
from jaxcnn.models.registry import variant

PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # statistics of ImageNet
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class GlobalResponseNorm(nn.Module):
    """Multiplies each channel by its relative response: its L2 norm over all positions / the mean norm of channels."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        shape = (1, 1, 1, x.shape[-1])
        scale = self.param("scale", nn.initializers.zeros, shape[-1:], jnp.float32).reshape(shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:], jnp.float32).reshape(shape)
        x = x.astype(jnp.float32)
        square = jnp.square(x).sum((1, 2), keepdims=True)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # sqrt has no derivative at 0
        share = norm / (norm.mean(-1, keepdims=True) + 1e-6)
        return (x + scale * (x * share) + bias).astype(self.dtype)


class Block(nn.Module):
    """7×7 depthwise, layer norm, 1×1 expansion by 4, GELU, 1×1 reduction, and a shortcut.

    V1 multiplies the branch by a learned per-channel factor (layer scale). V2 has global response normalization after the GELU
    instead.
    """

    response_norm: bool
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    dilation: int  # of the depthwise convolution
    conv: Callable
    dense: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        channels = x.shape[-1]
        # not named "depthwise…", because Keras stores the kernel as that of a grouped convolution
        y = self.conv(channels, 7, groups=channels, dilation=self.dilation, name="conv7x7")(x)
        y = LayerNorm(dtype=x.dtype, name="norm")(y)
        y = self.dense(4 * channels, name="expand")(y)
        y = recomputed(partial(nn.gelu, approximate=False))(y)
        if self.response_norm:
            y = GlobalResponseNorm(x.dtype, name="response_norm")(y)
        y = self.dense(channels, name="reduce")(y)
        if not self.response_norm:
            scale = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,), jnp.float32)
            y = y * scale.astype(x.dtype).reshape(1, 1, 1, channels)
        return x + StochasticDepth(self.drop_rate)(y, train=True)


class ConvNeXt(Network, kw_only=True):
    """Stem of 4×4 patches, four stages of blocks, global average pool, layer norm, linear head.

    The rate of stochastic depth grows from 0 in the first block. With num_classes=0, the features have passed the layer norm.
    `output_stride` limits the stride of the network: the last stages are dilated instead, as in timm.
    """

    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...]  # channels of each stage
    response_norm: bool  # blocks of V2
    output_stride: Literal[8, 16, 32] = 32

    without = frozenset({"freeze_norm"})
    smallest = 32

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.flavor.conv(self.dtype), partial(LayerNorm, dtype=self.dtype)
        dense = partial(nn.Dense, kernel_init=self.flavor.kernel_init, dtype=self.dtype)
        x = conv(self.widths[0], 4, 4, padding=0, name="stem_conv")(self.prepare(images))
        x = norm(name="stem_norm")(x)
        self.sow("intermediates", "stem", x)

        strides = stridings(self, (4, *[2] * (len(self.depths) - 1)), self.output_stride)
        rates = self.drop_path_rates(sum(self.depths), train)
        for stage, (depth, width, striding) in enumerate(zip(self.depths, self.widths, strides, strict=True), start=1):
            if stage > 1:
                x = norm(name=f"stage{stage}_norm")(x)
                padding = 0 if striding.dilation == 1 else "SAME"
                name = f"stage{stage}_conv"
                x = conv(width, 2, striding.stride, padding=padding, dilation=striding.first_dilation, name=name)(x)
            for index in range(1, depth + 1):
                name = f"stage{stage}_block{index}"
                x = self.run(Block(self.response_norm, next(rates), striding.dilation, conv, dense, name=name), x)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H', W', F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        return self.logits(LayerNorm(name="head_norm")(global_average_pool(x)), train=train)

    def prepare(self, images: jax.Array) -> jax.Array:
        """Returns the input of the stem."""
        return images


class KerasConvNeXt(ConvNeXt):
    """With `include_preprocessing`, RGB images have values from 0 to 255 and are standardized by the network."""

    include_preprocessing: bool = True

    def prepare(self, images: jax.Array) -> jax.Array:
        """Returns the input of the stem."""
        if not self.include_preprocessing or images.shape[-1] != 3:
            return images
        mean, std = (jnp.asarray(values, images.dtype).reshape(1, 1, 1, 3) for values in (PIXEL_MEAN, PIXEL_STD))
        return (images - mean) / std


NORMAL = nn.initializers.normal(0.02)
PAPER = Flavor(NORMAL, head_init=NORMAL, head_bias_init=ZEROS, conv_bias=True)
tiny, small, widths_96 = (3, 3, 9, 3), (3, 3, 27, 3), (96, 192, 384, 768)
convnext = partial(variant, module=ConvNeXt, flavor=PAPER, response_norm=False, image_size=224, paper="arXiv:2201.03545")
convnext("torchvision/convnext_tiny", depths=tiny, widths=widths_96, drop_path_rate=0.1)  # 28.6 M parameters
convnext("torchvision/convnext_small", depths=small, widths=widths_96, drop_path_rate=0.4)  # 50.2 M
convnext("torchvision/convnext_base", depths=small, widths=(128, 256, 512, 1024), drop_path_rate=0.5)  # 88.6 M
convnext("torchvision/convnext_large", depths=small, widths=(192, 384, 768, 1536), drop_path_rate=0.5)  # 197.8 M

keras = partial(convnext, module=KerasConvNeXt, flavor=KERAS._replace(conv_bias=True))
keras("keras/ConvNeXtTiny", depths=tiny, widths=widths_96)  # parameters as above
keras("keras/ConvNeXtSmall", depths=small, widths=widths_96)
keras("keras/ConvNeXtBase", depths=small, widths=(128, 256, 512, 1024))
keras("keras/ConvNeXtLarge", depths=small, widths=(192, 384, 768, 1536))
keras("keras/ConvNeXtXLarge", depths=small, widths=(256, 512, 1024, 2048))  # 350.2 M

convnext_v2 = partial(convnext, response_norm=True, paper="arXiv:2301.00808")
convnext_v2("timm/convnextv2_atto", depths=(2, 2, 6, 2), widths=(40, 80, 160, 320))  # 3.7 M
convnext_v2("timm/convnextv2_femto", depths=(2, 2, 6, 2), widths=(48, 96, 192, 384))  # 5.2 M
convnext_v2("timm/convnextv2_pico", depths=(2, 2, 6, 2), widths=(64, 128, 256, 512))  # 9.1 M
convnext_v2("timm/convnextv2_nano", depths=(2, 2, 8, 2), widths=(80, 160, 320, 640))  # 15.6 M
convnext_v2("timm/convnextv2_tiny", depths=tiny, widths=widths_96)  # 28.6 M
convnext_v2("timm/convnextv2_small", depths=small, widths=widths_96)  # 50.3 M
convnext_v2("timm/convnextv2_base", depths=small, widths=(128, 256, 512, 1024))  # 88.7 M
convnext_v2("timm/convnextv2_large", depths=small, widths=(192, 384, 768, 1536))  # 198.0 M
convnext_v2("timm/convnextv2_huge", depths=small, widths=(352, 704, 1408, 2816), image_size=384)  # 660.3 M

"""ConvNeXt and ConvNeXt V2.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie: A ConvNet for the 2020s. CVPR 2022, arXiv:2201.03545; figure 4.
Woo, Debnath, Hu, Chen, Liu, Kweon, Xie: ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders. CVPR
2023, arXiv:2301.00808; section 3 and algorithm 1.

All weights start normal with deviation 0.02 and zero biases as the papers' code, torchvision's and timm's do (their
truncation is at ±2, a hundred deviations off); Keras's flavour as Keras's layers do, by Glorot and Bengio (uniform).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import LayerNorm, StochasticDepth, conv, global_average_pool, recomputed
from jaxcnn.models.registry import check_images, variant

PIXEL_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # of ImageNet
PIXEL_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class GlobalResponseNorm(nn.Module):
    """Each channel times its share of the response: its norm over all positions, divided by the channels' mean norm."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        wide = (1, 1, 1, x.shape[-1])
        scale = self.param("scale", nn.initializers.zeros, wide[-1:], jnp.float32).reshape(wide)
        bias = self.param("bias", nn.initializers.zeros, wide[-1:], jnp.float32).reshape(wide)
        x = x.astype(jnp.float32)
        square = jnp.square(x).sum((1, 2), keepdims=True)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # the root has no derivative at 0
        share = norm / (norm.mean(-1, keepdims=True) + 1e-6)
        return (x + scale * (x * share) + bias).astype(self.dtype)


class Block(nn.Module):
    """7×7 depthwise, layer norm, 1×1 to four times the channels, GELU, 1×1 back; and the identity around them.

    V1 scales its branch by a small learnt factor a channel; V2 has global response normalisation after the GELU instead.
    """

    response_norm: bool
    drop_rate: float
    kernel_init: jax.nn.initializers.Initializer
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x, train):
        """(N, H, W, C) -> (N, H, W, C)."""
        channels = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        depthwise = partial(conv, groups=channels, use_bias=True, kernel_init=self.kernel_init, dtype=self.dtype)
        y = depthwise(channels, 7, name="conv7x7")(x)  # not "depthwise…": Keras lays it out as a grouped convolution
        y = LayerNorm(dtype=self.dtype, name="norm")(y)
        y = dense(4 * channels, name="expand")(y)
        y = recomputed(partial(nn.gelu, approximate=False))(y)
        if self.response_norm:
            y = GlobalResponseNorm(self.dtype, name="response_norm")(y)
        y = dense(channels, name="reduce")(y)
        if not self.response_norm:
            scale = self.param("layer_scale", nn.initializers.constant(1e-6), (channels,), jnp.float32)
            y = y * scale.astype(self.dtype).reshape(1, 1, 1, channels)
        return x + StochasticDepth(self.drop_rate)(y, train=train)


class ConvNeXt(nn.Module):
    """Patches of 4×4 pixels, four stages of blocks, global average pool, layer norm, linear head.

    Stochastic depth rises linearly from 0 at the first block to stochastic_depth_prob at the last (timm's and Keras's
    drop_path_rate). `remat` computes the blocks again in the backward pass instead of keeping what they computed.
    """

    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...]  # channels of each stage
    response_norm: bool  # V2
    num_classes: int = 1000
    stochastic_depth_prob: float = 0.0
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    kernel_init = staticmethod(nn.initializers.normal(0.02))

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 32×32 -> logits (N, num_classes) float32, or normed features if it is 0."""
        check_images(self, images, at_least=32)
        convolution = partial(conv, padding=0, use_bias=True, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(LayerNorm, dtype=self.dtype)
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block

        x = convolution(self.widths[0], 4, 4, name="stem_conv")(self.prepare(images))
        x = norm(name="stem_norm")(x)
        self.sow("intermediates", "stem", x)

        before, last = 0, max(sum(self.depths) - 1, 1)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=1):
            if stage > 1:
                x = norm(name=f"stage{stage}_norm")(x)
                x = convolution(width, 2, 2, name=f"stage{stage}_conv")(x)
            for index in range(depth):
                drop_rate = self.stochastic_depth_prob * (before + index) / last
                x = block(self.response_norm, drop_rate, self.kernel_init, self.dtype, name=f"stage{stage}_block{index + 1}")(
                    x, train
                )
            before += depth
            self.sow("intermediates", f"stage{stage}", x)

        x = LayerNorm(name="head_norm")(global_average_pool(x))
        if self.num_classes == 0:
            return x
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x)

    def prepare(self, images: jax.Array) -> jax.Array:
        """What the first convolution sees."""
        return images


class KerasConvNeXt(ConvNeXt):
    """With `include_preprocessing`, RGB images are pixels from 0 to 255, and standardised here."""

    include_preprocessing: bool = True

    kernel_init = staticmethod(nn.initializers.glorot_uniform())

    def prepare(self, images: jax.Array) -> jax.Array:
        """What the first convolution sees."""
        if not self.include_preprocessing or images.shape[-1] != 3:
            return images
        mean, std = (jnp.asarray(values, images.dtype).reshape(1, 1, 1, 3) for values in (PIXEL_MEAN, PIXEL_STD))
        return (images - mean) / std


_T: dict[str, Any] = {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768)}
_S: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768)}
_B: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024)}
_L: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (192, 384, 768, 1536)}
_XL: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (256, 512, 1024, 2048)}
_H: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (352, 704, 1408, 2816)}

convnext = partial(variant, image_size=224, paper="arXiv:2201.03545")
convnext("torchvision/convnext_tiny", ConvNeXt, **_T, response_norm=False, stochastic_depth_prob=0.1)  # 28.6 M parameters
convnext("torchvision/convnext_small", ConvNeXt, **_S, response_norm=False, stochastic_depth_prob=0.4)  # 50.2 M
convnext("torchvision/convnext_base", ConvNeXt, **_B, response_norm=False, stochastic_depth_prob=0.5)  # 88.6 M
convnext("torchvision/convnext_large", ConvNeXt, **_L, response_norm=False, stochastic_depth_prob=0.5)  # 197.8 M

convnext("keras/ConvNeXtTiny", KerasConvNeXt, **_T, response_norm=False)  # the same counts
convnext("keras/ConvNeXtSmall", KerasConvNeXt, **_S, response_norm=False)
convnext("keras/ConvNeXtBase", KerasConvNeXt, **_B, response_norm=False)
convnext("keras/ConvNeXtLarge", KerasConvNeXt, **_L, response_norm=False)
convnext("keras/ConvNeXtXLarge", KerasConvNeXt, **_XL, response_norm=False)  # 350.2 M

convnext_v2 = partial(variant, image_size=224, paper="arXiv:2301.00808")
convnext_v2("timm/convnextv2_atto", ConvNeXt, depths=(2, 2, 6, 2), widths=(40, 80, 160, 320), response_norm=True)  # 3.7 M
convnext_v2("timm/convnextv2_femto", ConvNeXt, depths=(2, 2, 6, 2), widths=(48, 96, 192, 384), response_norm=True)  # 5.2 M
convnext_v2("timm/convnextv2_pico", ConvNeXt, depths=(2, 2, 6, 2), widths=(64, 128, 256, 512), response_norm=True)  # 9.1 M
convnext_v2("timm/convnextv2_nano", ConvNeXt, depths=(2, 2, 8, 2), widths=(80, 160, 320, 640), response_norm=True)  # 15.6 M
convnext_v2("timm/convnextv2_tiny", ConvNeXt, **_T, response_norm=True)  # 28.6 M
convnext_v2("timm/convnextv2_small", ConvNeXt, **_S, response_norm=True)  # 50.3 M
convnext_v2("timm/convnextv2_base", ConvNeXt, **_B, response_norm=True)  # 88.7 M
convnext_v2("timm/convnextv2_large", ConvNeXt, **_L, response_norm=True)  # 198.0 M
convnext_v2("timm/convnextv2_huge", ConvNeXt, **_H, response_norm=True, image_size=384)  # 660.3 M

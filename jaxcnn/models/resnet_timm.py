"""timm's residual networks with squeeze-and-excitation, efficient channel attention, a deeper stem or antialiasing.

Hu, Shen, Sun: Squeeze-and-Excitation Networks. CVPR 2018, arXiv:1709.01507: `seresnet…`.
Wang, Wu, Zhu, Li, Zuo, Hu: ECA-Net: Efficient Channel Attention. CVPR 2020, arXiv:1910.03151: `ecaresnet…`.
He, Zhang, Zhang, Zhang, Xie, Li: Bag of Tricks for Image Classification. CVPR 2019, arXiv:1812.01187, figure 2: `resnet…d`
has a stem of three 3×3 convolutions (ResNet-C) and average pooling before the projection of a shortcut (ResNet-D).
Zhang: Making Convolutional Networks Shift-Invariant Again. ICML 2019, arXiv:1904.11486: `resnetblur…`.

As in timm, the last norm of each block starts with a zero scale (zero_init_last).
"""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import SqueezeExcite, blur_pool, max_pool, uniform
from jaxcnn.models.network import TORCHVISION
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet import BasicBlock, Bottleneck, ResNet


def squeeze_excite(features: int, *, norm: Callable, dtype: jax.typing.DTypeLike, name: str) -> nn.Module:
    """Returns a SqueezeExcite with a reduction of 16, rounded to a multiple of 8 channels."""
    return SqueezeExcite(max(8, int(features / 16 + 4) // 8 * 8), dtype=dtype, name=name)


class EfficientChannelAttention(nn.Module):
    """Multiplies each channel by a gate: a 1-D convolution of the channels' global means. Its size grows with their number."""

    features: int
    norm: Callable
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        size = int((math.log2(self.features) + 1) / 2)  # equation 12
        size += 1 - size % 2
        kernel = self.param("kernel", uniform(size**-0.5), (1, 1, size), jnp.float32)  # shaped as published
        means = jnp.pad(x.astype(jnp.float32).mean((1, 2)), ((0, 0), (size // 2, size // 2)))
        y = sum(means[:, i : i + self.features] * kernel[0, 0, i] for i in range(size))
        return x * nn.sigmoid(y).astype(x.dtype).reshape(-1, 1, 1, self.features)


class ResNetD(ResNet, kw_only=True):
    """A ResNet with a stem of three 3×3 convolutions. The first has stride 2, or 1 if the stem is "small"."""

    stem_widths: tuple[int, int]  # of the first two convolutions

    def first_layers(self, images: jax.Array, conv: Callable, norm: Callable) -> jax.Array:
        """The stem up to its ReLU: (N, H, W, C) -> (N, H/2, W/2, 64), or (N, H, W, 64) with the small stem."""
        first, second = self.stem_widths
        x = conv(first, 3, 2 if self.stem == "imagenet" else 1, name="stem_conv")(images)
        x = conv(second, 3, name="stem_conv2")(norm(name="stem_norm1", activation=nn.relu)(x))
        x = conv(64, 3, name="stem_conv3")(norm(name="stem_norm2", activation=nn.relu)(x))
        return norm(name="stem_norm3", activation=nn.relu)(x)


class BlurResNet(ResNet):
    """A ResNet whose stem has a max pool with stride 1 and a blur pool with stride 2."""

    def stem_pool(self, x: jax.Array) -> jax.Array:
        """The pooling of the ImageNet stem: (N, H, W, C) -> (N, H/2, W/2, C)."""
        return blur_pool(max_pool(x, 3, 1, padding=1), 2)


timm = partial(variant, flavor=TORCHVISION, zero_init_last=True)

basic_se, se = partial(BasicBlock, attention=squeeze_excite), partial(Bottleneck, attention=squeeze_excite)
x32x4d = partial(se, groups=32, width_per_group=4)
seresnet = partial(timm, module=ResNet, image_size=224, paper="arXiv:1709.01507")
seresnet("timm/seresnet18", depths=(2, 2, 2, 2), block=basic_se)  # 11.8 M parameters
seresnet("timm/seresnet34", depths=(3, 4, 6, 3), block=basic_se)  # 22.0 M
seresnet("timm/seresnet50", depths=(3, 4, 6, 3), block=se)  # 28.1 M
seresnet("timm/seresnet101", depths=(3, 4, 23, 3), block=se)  # 49.3 M
seresnet("timm/seresnet152", depths=(3, 8, 36, 3), block=se)  # 66.8 M
seresnet("timm/seresnext50_32x4d", depths=(3, 4, 6, 3), block=x32x4d)  # 27.6 M
seresnet("timm/seresnext101_32x4d", depths=(3, 4, 23, 3), block=x32x4d)  # 49.0 M

basic_d, bottleneck_d = (partial(block, average_shortcut=True) for block in (BasicBlock, Bottleneck))
resnet_d = partial(timm, module=ResNetD, stem_widths=(32, 32), image_size=224, paper="arXiv:1812.01187")
resnet_d("timm/resnet18d", depths=(2, 2, 2, 2), block=basic_d)  # 11.7 M
resnet_d("timm/resnet34d", depths=(3, 4, 6, 3), block=basic_d)  # 21.8 M
resnet_d("timm/resnet50d", depths=(3, 4, 6, 3), block=bottleneck_d)  # 25.6 M
resnet_d("timm/resnet101d", depths=(3, 4, 23, 3), block=bottleneck_d, image_size=256)  # 44.6 M
resnet_d("timm/resnet152d", depths=(3, 8, 36, 3), block=bottleneck_d, image_size=256)  # 60.2 M
resnet_d("timm/resnet200d", depths=(3, 24, 36, 3), block=bottleneck_d, image_size=256)  # 64.7 M

eca = partial(bottleneck_d, attention=EfficientChannelAttention)
ecaresnet = partial(timm, module=ResNetD, block=eca, paper="arXiv:1910.03151")
ecaresnet("timm/ecaresnet50d", stem_widths=(32, 32), depths=(3, 4, 6, 3), image_size=224)  # 25.6 M
ecaresnet("timm/ecaresnet101d", stem_widths=(32, 32), depths=(3, 4, 23, 3), image_size=224)  # 44.6 M
ecaresnet("timm/ecaresnet26t", stem_widths=(24, 32), depths=(2, 2, 2, 2), image_size=256)  # 16.0 M

blur = partial(timm, module=BlurResNet, image_size=224, paper="arXiv:1904.11486")
blur("timm/resnetblur18", depths=(2, 2, 2, 2), block=partial(BasicBlock, blur=True))  # 11.7 M
blur("timm/resnetblur50", depths=(3, 4, 6, 3), block=partial(Bottleneck, blur=True))  # 25.6 M

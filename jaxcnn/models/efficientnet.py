"""EfficientNet and EfficientNetV2.

Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019, arXiv:1905.11946; table 1.
Tan, Le: EfficientNetV2: Smaller Models and Faster Training. ICML 2021, arXiv:2104.00298; table 4. V2-M and V2-L have more
stages in the authors' code than in the paper; all libraries follow the code.
EfficientNet-Lite, github.com/tensorflow/tpu, is B0 to B4 without squeeze-and-excitation, with ReLU6, and with B0's stem, last
convolution, and depth of the first and the last stage.

Initialized as in the library: He, fan out (within groups in timm and Keras, truncated in Keras); head uniform.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.models.mobile_blocks import Design, Row, wider
from jaxcnn.models.mobile_network import (
    HEAD_UNIFORM,
    KERAS,
    TIMM,
    TIMM_TF,
    TORCHVISION,
    TORCHVISION_TF,
    MobileNetwork,
)
from jaxcnn.models.registry import variant

V1 = (
    Row("separable", 3, 1, 1, 16, 1, 0.25),
    Row("inverted", 3, 2, 6, 24, 2, 0.25),
    Row("inverted", 5, 2, 6, 40, 2, 0.25),
    Row("inverted", 3, 2, 6, 80, 3, 0.25),
    Row("inverted", 5, 1, 6, 112, 3, 0.25),
    Row("inverted", 5, 2, 6, 192, 4, 0.25),
    Row("inverted", 3, 1, 6, 320, 1, 0.25),
)
V2_L = (
    Row("fused", 3, 1, 1, 32, 4),
    Row("fused", 3, 2, 4, 64, 7),
    Row("fused", 3, 2, 4, 96, 7),
    Row("inverted", 3, 2, 4, 192, 10, 0.25),
    Row("inverted", 3, 1, 6, 224, 19, 0.25),
    Row("inverted", 3, 2, 6, 384, 25, 0.25),
    Row("inverted", 3, 1, 6, 640, 7, 0.25),
)


def _v2(widths: tuple[int, ...], repeats: tuple[int, ...]) -> tuple[Row, ...]:
    """Returns the stages of another V2 network: those of V2-L with other widths and repeats, possibly without the last."""
    stages = zip(V2_L[: len(widths)], widths, repeats, strict=True)
    return tuple(row._replace(width=width, repeats=blocks) for row, width, blocks in stages)


V2_BASE = _v2((16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8))
V2_S = _v2((24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15))
V2_M = _v2((24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5))


def deeper(factor: float) -> Callable[[int], int]:
    """Returns the compound scaling of depth: repeats · factor, rounded up."""
    return lambda repeats: math.ceil(repeats * factor)


def scaled(stages: tuple[Row, ...], width: float, depth: float, limit: float = 0.9) -> Design:
    """Applies compound scaling (section 3.3) to the stages, the stem and the last convolution."""
    wide = wider(width, limit)
    return Design(stages, wide(32), wide(1280), nn.silu).scaled(wide, deeper(depth))


class Normalization(nn.Module):
    """Subtracts a mean and divides by a standard deviation, constants in "batch_stats" from converted weights."""

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C) float32."""
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32).value
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32).value
        return (x - mean.reshape(1, 1, 1, -1)) / jnp.maximum(jnp.sqrt(var), 1e-7).reshape(1, 1, 1, -1)


class KerasEfficientNet(MobileNetwork, kw_only=True):
    """Keras's EfficientNet, for pixels from 0 to 255 unless `include_preprocessing` is off.

    V1 has a normalization layer. In Keras's ImageNet weights, the variances of that layer are standard deviations, for which
    another factor compensates: square "normalization/variance" before converting them.
    """

    normalization: Literal["layer", "imagenet", "symmetric"]
    include_preprocessing: bool = True

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        return super().backbone(self.preprocess(images) if self.include_preprocessing else images, train=train)

    def preprocess(self, images):
        """Normalizes pixels (N, H, W, C) for the stem."""
        images = images.astype(jnp.float32)
        if self.normalization == "layer":
            return Normalization(name="normalization")(images / 255)
        if self.normalization == "imagenet" and images.shape[-1] == 3:
            mean, std = (jnp.float32(x).reshape(1, 1, 1, 3) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            return (images / 255 - mean) / std
        return images / 128 - 1


_TORCHVISION = TORCHVISION._replace(head_init=HEAD_UNIFORM)
_TORCHVISION_TF = TORCHVISION_TF._replace(head_init=HEAD_UNIFORM)
_KERAS_V1 = KERAS._replace(
    kernel_init=nn.initializers.variance_scaling(2, "fan_out", "truncated_normal"),
    grouped_init=nn.initializers.variance_scaling(2, "fan_in", "truncated_normal"),
    head_init=HEAD_UNIFORM,
)

_SCALES = (  # width, depth, dropout and image size of B0 to B7
    (1.0, 1.0, 0.2, 224),
    (1.0, 1.1, 0.2, 240),
    (1.1, 1.2, 0.3, 260),
    (1.2, 1.4, 0.3, 300),
    (1.4, 1.8, 0.4, 380),
    (1.6, 2.2, 0.4, 456),
    (1.8, 2.6, 0.5, 528),
    (2.0, 3.1, 0.5, 600),
)
v1 = partial(variant, paper="arXiv:1905.11946")
v2 = partial(variant, paper="arXiv:2104.00298")
torchvision = partial(v1, module=MobileNetwork, flavor=_TORCHVISION, drop_path_rate=0.2)
torchvision_v2 = partial(v2, module=MobileNetwork, flavor=_TORCHVISION._replace(epsilon=1e-3), drop_path_rate=0.2)
keras = partial(v1, module=KerasEfficientNet, flavor=_KERAS_V1, normalization="layer", drop_path_rate=0.2)
_KERAS_V2 = _KERAS_V1._replace(momentum=0.1)
keras_v2 = partial(v2, module=KerasEfficientNet, flavor=_KERAS_V2, drop_rate=0.2, drop_path_rate=0.2)
lite = partial(v1, module=MobileNetwork, flavor=TIMM)
timm = partial(v1, module=MobileNetwork, flavor=TIMM_TF)
timm_v2 = partial(v2, module=MobileNetwork, flavor=TIMM_TF)

# 5.3, 7.8, 9.1, 12.2, 19.3, 30.4, 43.0, 66.3 M parameters
for _number, (_width, _depth, _dropout, _side) in enumerate(_SCALES):
    _design = scaled(V1, _width, _depth)
    _flavor = _TORCHVISION_TF if _number >= 5 else _TORCHVISION
    _name, _tv_side = f"torchvision/efficientnet_b{_number}", 288 if _number == 2 else _side
    torchvision(_name, flavor=_flavor, design=_design, drop_rate=_dropout, image_size=_tv_side)
    keras(f"keras/EfficientNetB{_number}", design=_design, drop_rate=_dropout, image_size=_side)
    timm(f"timm/tf_efficientnet_b{_number}", design=_design, image_size=_side)


def _lite_depth(factor: float) -> Callable[[int], int]:
    # only the first and the last stage have one block
    return lambda repeats: repeats if repeats == 1 else math.ceil(repeats * factor)


_LITE = Design(tuple(row._replace(squeeze_excite=0) for row in V1), 32, 1280, nn.relu6)
for _number, (_width, _depth, _, _side) in enumerate(_SCALES[:5]):  # 4.7, 5.4, 6.1, 8.2, 13.0 M
    lite(f"timm/efficientnet_lite{_number}", design=_LITE.scaled(wider(_width), _lite_depth(_depth)), image_size=_side)

_STEPS = sum(row.repeats for row in V2_BASE)  # Keras counts blocks before scaling, so that its rates are higher
for _number, _timm_side in enumerate((192, 192, 208, 240)):  # 7.1, 8.1, 10.1, 14.4 M
    _width, _depth, _, _side = _SCALES[_number]
    _design = scaled(V2_BASE, _width, _depth, limit=0.0)
    _name, _keras_design = f"keras/EfficientNetV2B{_number}", _design._replace(drop_steps=_STEPS)
    keras_v2(_name, design=_keras_design, normalization="imagenet", image_size=_side)
    timm_v2(f"timm/tf_efficientnetv2_b{_number}", design=_design, image_size=_timm_side)

for _size, _stages, _stem, _dropout, _side, _timm_side in (  # 21.5, 54.1, 119 M
    ("s", V2_S, 24, 0.2, 384, 300),
    ("m", V2_M, 24, 0.3, 480, 384),
    ("l", V2_L, 32, 0.4, 480, 384),
):
    _design = Design(_stages, _stem, 1280, nn.silu)
    torchvision_v2(f"torchvision/efficientnet_v2_{_size}", design=_design, drop_rate=_dropout, image_size=_side)
    keras_v2(f"keras/EfficientNetV2{_size.upper()}", design=_design, normalization="symmetric", image_size=_side)
    timm_v2(f"timm/tf_efficientnetv2_{_size}", design=_design, image_size=_timm_side)

"""Semantic FPN.

Lin, Dollár, Girshick, He, Hariharan, Belongie: Feature Pyramid Networks for Object Detection. CVPR 2017, arXiv:1612.03144;
figure 3.
Kirillov, Girshick, He, Dollár: Panoptic Feature Pyramid Networks. CVPR 2019, arXiv:1901.02446; section 3.1 and figure 3.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxcnn.layers import GroupNorm
from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import SegmentationNetwork, resize_bilinear
from jaxcnn.settings import Share


class SemanticFPN(SegmentationNetwork, kw_only=True):
    """A feature pyramid on the maps of a classifier with strides of at least 4. Its levels are upsampled to stride 4 and added.

    Attributes:
      encoder: the name of the classifier, as in `list_models`.

    `drop_rate` is the dropout before the last convolution.
    """

    encoder: str = "resnet50"
    drop_rate: Share = 0.0

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H/4, W/4, num_classes) float32."""
        maps = [x for x in self.encode(self.encoder, images, train=train) if 3 * x.shape[1] < images.shape[1]]
        size = maps[0].shape[1:3]
        levels = [self.level(x, n, size) for n, x in enumerate(self.pyramid(maps, train))]
        x = nn.Dropout(self.drop_rate, deterministic=not train)(sum(levels[1:], start=levels[0]))
        return self.per_pixel(x, "logits")

    def pyramid(self, maps: list[jax.Array], train: bool) -> list[jax.Array]:
        """Lateral 1×1 convolutions and the top-down path: maps (N, H, W, F) -> maps (N, H, W, 256), finest first."""
        conv, _ = self.layers(train)
        result: list[jax.Array] = []
        for n, x in reversed(list(enumerate(maps))):
            x = conv(256, 1, use_bias=True, name=f"lateral{n + 1}_conv")(x)
            if result:
                x = x + jax.image.resize(result[0], x.shape, "nearest")
            result.insert(0, x)
        return [conv(256, 3, use_bias=True, name=f"pyramid{n}_conv")(x) for n, x in enumerate(result, start=1)]

    def level(self, x: jax.Array, doublings: int, size: Sequence[int]) -> jax.Array:
        """3×3 convolutions with group norm and ReLU, each with upsampling by 2 but for the finest level: -> (N, *size, 128)."""
        conv = self.flavor.conv(self.dtype)
        for n in range(1, max(doublings, 1) + 1):
            name = f"level{doublings + 1}_{n}"
            x = conv(128, 3, name=f"{name}_conv")(x)
            x = nn.relu(GroupNorm(32, dtype=self.dtype, name=f"{name}_norm")(x))
            if doublings:
                x = resize_bilinear(x, size if n == doublings else (2 * x.shape[1], 2 * x.shape[2]))
        return x


variant("semantic_fpn", SemanticFPN, image_size=512, paper="arXiv:1901.02446")  # 28.5 M parameters with ResNet-50

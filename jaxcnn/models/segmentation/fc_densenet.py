"""FC-DenseNet, "the one hundred layers Tiramisu".

Jégou, Drozdzal, Vazquez, Romero, Bengio: The One Hundred Layers Tiramisu: Fully Convolutional DenseNets for Semantic
Segmentation. CVPR Workshops 2017, arXiv:1611.09326; tables 1 and 2.
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import TransposedConv, max_pool
from jaxcnn.models.network import Flavor
from jaxcnn.models.registry import variant
from jaxcnn.models.segmentation.network import SegmentationNetwork
from jaxcnn.settings import Share

HE_UNIFORM = nn.initializers.he_uniform()
FLAVOR = Flavor(kernel_init=HE_UNIFORM, conv_bias=True)  # section 4.1


class FCDenseNet(SegmentationNetwork, kw_only=True):
    """Dense blocks with transitions down to the bottleneck, and up again with skip connections.

    Attributes:
      growth: number of maps that a layer of a dense block adds.
      depths: numbers of layers of the dense blocks on the way down; the last one is the bottleneck.
      stem_width: channels of the first convolution.

    `drop_rate` is the dropout after each convolution of dense blocks and transitions down.
    """

    flavor: Flavor = FLAVOR
    drop_rate: Share = 0.2
    growth: int
    depths: tuple[int, ...]
    stem_width: int = 48
    without: ClassVar = frozenset({"drop_path_rate", "remat"})

    def scores(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, H, W, num_classes) float32."""
        conv, _ = self.layers(train)
        *down, bottleneck = self.depths
        x, skips = conv(self.stem_width, 3, name="stem_conv")(images), []
        for stage, depth in enumerate(down, start=1):
            x = jnp.concatenate([x, *self.dense_block(x, depth, f"down{stage}", train)], axis=-1)
            skips.append(x)
            x = max_pool(self.layer(x, x.shape[-1], 1, f"transition{stage}", train), 2, 2)
        new = self.dense_block(x, bottleneck, "bottleneck", train)
        for stage, depth in reversed(list(enumerate(down, start=1))):
            skip = skips.pop()
            x = jnp.concatenate(new, axis=-1)  # only the new maps of a block are upsampled (section 3.2)
            x = TransposedConv(x.shape[-1], 3, 2, kernel_init=HE_UNIFORM, dtype=self.dtype, name=f"transition_up{stage}_conv")(
                x
            )
            x = jnp.concatenate([x[:, : skip.shape[1], : skip.shape[2]], skip], axis=-1)
            new = self.dense_block(x, depth, f"up{stage}", train)
        x = jnp.concatenate([x, *new], axis=-1)
        return self.per_pixel(x, "logits")

    def dense_block(self, x: jax.Array, depth: int, name: str, train: bool) -> list[jax.Array]:
        """The new maps of `depth` layers, each of which sees x and the maps before it."""
        new: list[jax.Array] = []
        for number in range(1, depth + 1):
            new.append(self.layer(jnp.concatenate([x, *new], axis=-1), self.growth, 3, f"{name}_layer{number}", train))
        return new

    def layer(self, x: jax.Array, features: int, size: int, name: str, train: bool) -> jax.Array:
        """Table 1: batch norm, ReLU, convolution, dropout."""
        conv, norm = self.layers(train)
        x = conv(features, size, name=f"{name}_conv")(norm(name=f"{name}_norm", activation=nn.relu)(x))
        return nn.Dropout(self.drop_rate, deterministic=not train)(x)


tiramisu = partial(variant, module=FCDenseNet, image_size=224, paper="arXiv:1611.09326")
tiramisu("fc_densenet56", growth=12, depths=(4, 4, 4, 4, 4, 4))  # 1.4 M parameters
tiramisu("fc_densenet67", growth=16, depths=(5, 5, 5, 5, 5, 5))  # 3.5 M
tiramisu("fc_densenet103", growth=16, depths=(4, 5, 7, 10, 12, 15))  # 9.3 M

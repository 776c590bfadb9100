"""SqueezeNet.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size. 2016, arXiv:1602.07360; figures 1 and 2, table 1. `squeezenet1_1` is the authors' later network with
2.4 times less computation: a smaller first convolution, and pooling earlier.

As in torchvision and the authors' published network, the first convolution has no padding (109 positions, where the paper's
table has 111), pooling uses ceil mode, and a ReLU follows the last convolution too. Initialized by He et al. (fan in,
uniform), the last convolution by a normal distribution with σ = 0.01, biases with zero.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import global_average_pool, max_pool
from jaxcnn.models.network import Flavor, Network
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share


class Fire(nn.Module):
    """1×1 convolution to `squeeze` maps; then, concatenated, 1×1 and 3×3 convolutions to 4·squeeze maps each."""

    squeeze: int
    conv: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, 8·squeeze)."""
        x = nn.relu(self.conv(self.squeeze, 1, name="squeeze")(x))
        expand1x1 = nn.relu(self.conv(4 * self.squeeze, 1, name="expand1x1")(x))
        expand3x3 = nn.relu(self.conv(4 * self.squeeze, 3, name="expand3x3")(x))
        return jnp.concatenate([expand1x1, expand3x3], axis=-1)


class SqueezeNet(Network, kw_only=True):
    """Stem, fire modules in three stages with max pooling before each, dropout, 1×1 convolution to the classes, mean."""

    stem_filters: int
    stem_size: int
    depths: tuple[int, ...]  # fire modules in each stage
    drop_rate: Share = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm"})

    @property
    def smallest(self) -> int:
        """The minimum height and width of images, for which the third pooling has inputs of 2×2."""
        return self.stem_size + 14

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/16, W/16, 512)."""
        conv, _ = self.layers(train)
        x = nn.relu(conv(self.stem_filters, self.stem_size, 2, padding=0, name="stem_conv")(images))
        self.sow("intermediates", "stem", x)
        fire = 2
        for stage, depth in enumerate(self.depths, start=1):
            x = max_pool(x, 3, 2, ceil_mode=True)
            for _ in range(depth):
                x = self.run(Fire(16 * (fire // 2), conv, name=f"stage{stage}_fire{fire}"), x)
                fire += 1
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/16, W/16, 512) -> (N, num_classes) float32, or (N, 512) if num_classes is 0."""
        if self.num_classes == 0:
            return global_average_pool(x)
        return mean_of_maps(self, nn.Dropout(self.drop_rate, deterministic=not train)(x))


def mean_of_maps(model: Network, x: jax.Array) -> jax.Array:
    """A 1×1 convolution to one map per class, ReLU, and global average: (N, H, W, C) -> (N, num_classes) float32."""
    init = model.flavor.head_init or model.flavor.kernel_init
    conv = model.flavor.conv(jnp.float32)(model.num_classes, 1, kernel_init=init, name="head")
    return global_average_pool(nn.relu(conv(x.astype(jnp.float32))))


HE_UNIFORM = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")
FLAVOR = Flavor(HE_UNIFORM, head_init=nn.initializers.normal(0.01), conv_bias=True)
squeezenet = partial(variant, module=SqueezeNet, flavor=FLAVOR, image_size=224, paper="arXiv:1602.07360")
squeezenet("torchvision/squeezenet1_0", stem_filters=96, stem_size=7, depths=(3, 4, 1))  # 1.25 M parameters
squeezenet("torchvision/squeezenet1_1", stem_filters=64, stem_size=3, depths=(2, 2, 4))  # 1.24 M

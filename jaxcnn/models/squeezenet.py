"""SqueezeNet.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size. 2016, arXiv:1602.07360; figures 1 and 2, table 1. `squeezenet1_1` is the authors' later network with
2.4 times less computation: a smaller first convolution, and pooling earlier.

As torchvision, after the authors' published network: no padding in the first convolution (the paper's table has 111
positions, this 109), pooling that keeps what reaches over the edge, and a ReLU after the last convolution too.
Initialised by He et al. (fan in, uniform), the last convolution normal with deviation 0.01, biases zero.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, global_average_pool, max_pool
from jaxcnn.models.registry import check_images, variant

HE_UNIFORM = nn.initializers.variance_scaling(2.0, "fan_in", "uniform")


class Fire(nn.Module):
    """1×1 convolutions to `squeeze` maps, and of these 1×1 and 3×3 convolutions to 4·squeeze maps each."""

    squeeze: int
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, 8·squeeze)."""
        convolution = partial(conv, use_bias=True, kernel_init=HE_UNIFORM, dtype=self.dtype)
        x = nn.relu(convolution(self.squeeze, 1, name="squeeze")(x))
        one = nn.relu(convolution(4 * self.squeeze, 1, name="expand1x1")(x))
        three = nn.relu(convolution(4 * self.squeeze, 3, name="expand3x3")(x))
        return jnp.concatenate([one, three], axis=-1)


class SqueezeNet(nn.Module):
    """Fire modules fire2 to fire9 in three stages, max pooling before each stage; a 1×1 convolution makes the logits."""

    stem_filters: int
    stem_size: int
    depths: tuple[int, ...]  # fire modules in each stage
    num_classes: int = 1000
    dropout: float = 0.5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, 512) if num_classes is 0."""
        check_images(self, images, at_least=self.stem_size + 14)  # the third pooling takes no less than 2×2
        stem = conv(
            self.stem_filters,
            self.stem_size,
            stride=2,
            padding=0,
            use_bias=True,
            kernel_init=HE_UNIFORM,
            dtype=self.dtype,
            name="stem_conv",
        )
        x = nn.relu(stem(images))
        self.sow("intermediates", "stem", x)
        fire = 2
        for stage, depth in enumerate(self.depths, start=1):
            x = max_pool(x, 3, 2, ceil_mode=True)
            for _ in range(depth):
                x = Fire(16 * (fire // 2), self.dtype, name=f"stage{stage}_fire{fire}")(x)
                fire += 1
            self.sow("intermediates", f"stage{stage}", x)

        if self.num_classes == 0:
            return global_average_pool(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x).astype(jnp.float32)
        x = conv(self.num_classes, 1, use_bias=True, kernel_init=nn.initializers.normal(0.01), name="head")(x)
        return global_average_pool(nn.relu(x))


squeezenet = partial(variant, image_size=224, paper="arXiv:1602.07360")
squeezenet("torchvision/squeezenet1_0", SqueezeNet, stem_filters=96, stem_size=7, depths=(3, 4, 1))  # 1.25 M parameters
squeezenet("torchvision/squeezenet1_1", SqueezeNet, stem_filters=64, stem_size=3, depths=(2, 2, 4))  # 1.24 M

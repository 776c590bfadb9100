"""Highway networks.

Srivastava, Greff, Schmidhuber: Training Very Deep Networks. NeurIPS 2015, arXiv:1507.06228; equation 3, section 3.
A layer that keeps its width passes on what its gate does not let it transform; one that changes the width is plain.

`highway10_16` and `highway10_32` are MNIST's, 9 convolutions 16 or 32 wide: that they are pooled after each three follows
from the 39 K and 151 K parameters that the paper gives. `highway19` is CIFAR's "Highway B" of 2.3 M, with the widths of
FitNet 4 (Romero et al., arXiv:1412.6550, table 7) and its layer of 500 units. Gates start nearly closed, with a bias of -2
(the paper: from -1 to -4, by depth); the other biases at zero, and all weights by He et al. (fan in), as in the paper.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, global_average_pool, global_max_pool, he_normal, max_pool
from jaxcnn.models.registry import check_images, variant

GATE_BIAS = -2.0


class HighwayLayer(nn.Module):
    """T(x) · H(x) + (1 - T(x)) · x with two 3×3 convolutions: H is what is transformed, T the gate."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        convolution = partial(conv, x.shape[-1], 3, use_bias=True, kernel_init=he_normal("fan_in"), dtype=self.dtype)
        transformed = nn.relu(convolution(name="transform")(x))
        gate = nn.sigmoid(convolution(bias_init=nn.initializers.constant(GATE_BIAS), name="gate")(x))
        return gate * transformed + (1 - gate) * x


class Highway(nn.Module):
    """Stages of 3×3 convolutions, each but CIFAR's last with a 2×2 max pool, a hidden layer if any, linear head."""

    widths: tuple[tuple[int, ...], ...]  # of the layers of each stage
    hidden: int  # units after the maximum over all positions; 0: the head sees every position
    num_classes: int = 10
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 8×8 -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=8)
        dense = partial(nn.Dense, kernel_init=he_normal("fan_in"))

        x = images
        for stage, widths in enumerate(self.widths, start=1):
            for index, width in enumerate(widths, start=1):
                first = stage == index == 1
                if first or width != x.shape[-1]:
                    name = "stem_conv" if first else f"stage{stage}_conv{index}"
                    layer = conv(width, 3, use_bias=True, kernel_init=he_normal("fan_in"), dtype=self.dtype, name=name)
                    x = nn.relu(layer(x))
                else:
                    x = HighwayLayer(self.dtype, name=f"stage{stage}_layer{index}")(x)
            if not self.hidden or stage < len(self.widths):
                x = max_pool(x, 2, 2)
            self.sow("intermediates", f"stage{stage}", x)

        if self.hidden:
            x = nn.relu(dense(self.hidden, name="hidden")(global_max_pool(x).astype(jnp.float32)))
        elif self.num_classes == 0:
            return global_average_pool(x)
        else:
            x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return x if self.num_classes == 0 else dense(self.num_classes, name="head")(x)


highway = partial(variant, image_size=32, paper="arXiv:1507.06228")
highway("highway10_16", Highway, widths=((16,) * 3,) * 3, hidden=0)  # 38,730 parameters on 28×28×1
highway("highway10_32", Highway, widths=((32,) * 3,) * 3, hidden=0)  # 151,178
highway("highway19", Highway, widths=((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6), hidden=500)  # 2.3 M

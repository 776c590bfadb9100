"""Highway networks.

Srivastava, Greff, Schmidhuber: Training Very Deep Networks. NeurIPS 2015, arXiv:1507.06228; equation 3, section 3.
A layer that keeps its width passes on what its gate does not let it transform; one that changes the width is plain.

`highway10_16` and `highway10_32` are MNIST's, 9 convolutions 16 or 32 wide: that they are pooled after each three follows
from the 39 K and 151 K parameters that the paper gives. `highway19` is CIFAR's "Highway B" of 2.3 M, with the widths of
FitNet 4 (Romero et al., arXiv:1412.6550, table 7) and its layer of 500 units. Gates start nearly closed, with a bias of -2
(the paper: from -1 to -4, by depth); the other biases at zero, and all weights by He et al. (fan in), as in the paper.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import global_average_pool, global_max_pool, he_normal, max_pool
from jaxcnn.models.network import ZEROS, Flavour, Network
from jaxcnn.models.registry import variant

GATE_BIAS = -2.0


class HighwayLayer(nn.Module):
    """T(x) · H(x) + (1 - T(x)) · x with two 3×3 convolutions: H is what is transformed, T the gate."""

    conv: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        transformed = nn.relu(self.conv(x.shape[-1], 3, name="transform")(x))
        gate = nn.sigmoid(self.conv(x.shape[-1], 3, bias_init=nn.initializers.constant(GATE_BIAS), name="gate")(x))
        return gate * transformed + (1 - gate) * x


class Highway(Network, kw_only=True):
    """Stages of 3×3 convolutions, each but CIFAR's last with a 2×2 max pool, a hidden layer if any, linear head."""

    widths: tuple[tuple[int, ...], ...]  # of the layers of each stage
    hidden: int  # units after the maximum over all positions; 0: the head sees every position
    num_classes: int = 10

    without = frozenset({"drop_path_rate", "freeze_norm"})
    smallest = 8

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/8, W/8, F), or (N, H/4, W/4, F) where there is a hidden layer."""
        conv, _ = self.layers(train)
        x = images
        for stage, widths in enumerate(self.widths, start=1):
            for index, width in enumerate(widths, start=1):
                first = stage == index == 1
                if first or width != x.shape[-1]:
                    x = nn.relu(conv(width, 3, name="stem_conv" if first else f"stage{stage}_conv{index}")(x))
                else:
                    x = self.run(HighwayLayer(conv, name=f"stage{stage}_layer{index}"), x)
            if not self.hidden or stage < len(self.widths):
                x = max_pool(x, 2, 2)
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H', W', F) -> (N, num_classes) float32, or (N, features) if num_classes is 0."""
        if not self.hidden and self.num_classes == 0:
            return global_average_pool(x)
        x = (global_max_pool(x) if self.hidden else x.reshape(len(x), -1)).astype(jnp.float32)
        if self.hidden:
            x = nn.relu(self.flavour.linear(x.shape[-1], self.hidden, name="hidden")(x))
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return self.flavour.linear(x.shape[-1], self.num_classes, name="head")(x)


HE = Flavour(he_normal("fan_in"), head_init=he_normal("fan_in"), head_bias_init=ZEROS, conv_bias=True)
highway = partial(variant, module=Highway, flavour=HE, image_size=32, paper="arXiv:1507.06228")
highway("highway10_16", widths=((16,) * 3,) * 3, hidden=0)  # 38,730 parameters on 28×28×1
highway("highway10_32", widths=((32,) * 3,) * 3, hidden=0)  # 151,178
highway("highway19", widths=((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6), hidden=500)  # 2.3 M

"""Highway networks.

Srivastava, Greff, Schmidhuber: Training Very Deep Networks. NeurIPS 2015, arXiv:1507.06228; equation 3, section 3.
Layers that preserve the width are highway layers. Layers that change it are plain convolutions.

`highway10_16` and `highway10_32` are the paper's networks for MNIST, with 9 convolutions of 16 or 32 channels. Max pooling
after every three of them follows from the paper's counts of 39 K and 151 K parameters. `highway19` is "Highway B" for CIFAR
with 2.3 M parameters, the widths of FitNet 4 (Romero et al., arXiv:1412.6550, table 7) and its hidden layer of 500 units. The
biases of gates are initialized with -2, so that gates are nearly closed (in the paper: from -1 to -4, by depth), other biases
with 0, and all weights by He et al. (fan in), as in the paper.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import global_average_pool, global_max_pool, he_normal, max_pool
from jaxcnn.models.network import ZEROS, Flavor, Network
from jaxcnn.models.registry import variant

GATE_BIAS = -2.0


class HighwayLayer(nn.Module):
    """T(x) · H(x) + (1 - T(x)) · x, where the transform H and the gate T are 3×3 convolutions."""

    conv: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H, W, C)."""
        transformed = nn.relu(self.conv(x.shape[-1], 3, name="transform")(x))
        gate = nn.sigmoid(self.conv(x.shape[-1], 3, bias_init=nn.initializers.constant(GATE_BIAS), name="gate")(x))
        return gate * transformed + (1 - gate) * x


class Highway(Network, kw_only=True):
    """Stages of 3×3 convolutions with 2×2 max pools (in CIFAR's, none after the last), a hidden layer if any, linear head."""

    widths: tuple[tuple[int, ...], ...]  # channels of each layer, by stage
    hidden: int  # units of the hidden layer, after global max pooling; 0: none, and the head's input is all positions
    num_classes: int = 10

    without = frozenset({"drop_path_rate", "freeze_norm"})
    smallest = 8

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/8, W/8, F), or (N, H/4, W/4, F) with a hidden layer."""
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
        if self.hidden:
            x = global_max_pool(x).astype(jnp.float32)
            x = nn.relu(self.flavor.linear(x.shape[-1], self.hidden, name="hidden")(x))
        elif self.num_classes == 0:
            x = global_average_pool(x)
        else:
            x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        return self.logits(x, train=train)


HE = Flavor(he_normal("fan_in"), head_init=he_normal("fan_in"), head_bias_init=ZEROS, conv_bias=True)
highway = partial(variant, module=Highway, flavor=HE, image_size=32, paper="arXiv:1507.06228")
highway("highway10_16", widths=((16,) * 3,) * 3, hidden=0)  # 38,730 parameters on 28×28×1
highway("highway10_32", widths=((32,) * 3,) * 3, hidden=0)  # 151,178
highway("highway19", widths=((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6), hidden=500)  # 2.3 M

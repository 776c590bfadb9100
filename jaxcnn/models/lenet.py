"""LeNet-1, LeNet-4 and LeNet-5.

LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel: Handwritten Digit Recognition with a Back-Propagation Network.
NeurIPS 1989; figure 3 and table 1. LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document
Recognition. Proceedings of the IEEE 86(11), 1998; section II.B, figure 2 and table I, and III.C for LeNet-1 and LeNet-4.

`lenet1` is the network of 1989, to the parameter. `lenet4` is what the paper of 1998 describes: 4 maps, 8 subsampled in
pairs from them, 16 maps, 120 units. The paper has no table of its connections from 8 to 16 maps; three inputs a map give
the 260,000 connections that it counts. Its 17,000 parameters fit no 120 units on 16 maps of 5×5: they alone have 48,120.

`lenet5` is the paper's, to the parameter, but for its output: 10 radial basis functions around 7×12 bitmaps of the ten
digits. They exist for those classes only and their distances are no logits, so a linear layer stands there.
`lenet5_relu` is the form that textbooks train: ReLU, max pooling, every map of C3 connected to all of S2.

Layers have the paper's names. On 32×32 images a unit of C5 sees its inputs whole; on larger ones C5 remains a
convolution, and its maps are averaged.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import convolve, global_average_pool, he_normal, max_pool, sum_pool, uniform
from jaxcnn.models.network import ZEROS, Flavour, Network
from jaxcnn.models.registry import variant

# Table I: the maps of S2 that each of the 16 maps of C3 is connected to: every 3 neighbours, every 4 neighbours,
# 3 times 4 with a gap, all 6. That breaks the symmetry between the maps and saves connections.
C3_INPUTS = (
    *[(i, (i + 1) % 6, (i + 2) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)],
    (0, 1, 2, 3, 4, 5),
)


# LeNet-1's table 1: maps of H2 for each of the 12 maps of H3, half of which see the first two maps, half the others.
H3_INPUTS = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)

# LeNet-4's, ours: three neighbours of the 8 maps, then every second one.
LENET4_C3_INPUTS = tuple((i, (i + step) % 8, (i + 2 * step) % 8) for step in (1, 2) for i in range(8))


def squash(a):
    """The paper's f(a) = A tanh(S a) with f(±1) = ±1 (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * a)


def fan_in_uniform(key, shape, dtype=jnp.float32, out_sharding=None):
    """The paper's initial weights: uniform within ±2.4 / inputs of a unit (section III.A)."""
    return uniform(2.4 / math.prod(shape[:-1]))(key, shape, dtype)


class Subsampling(nn.Module):
    """The sum of each 2×2 window, times a coefficient, plus a bias, both one a map."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        scale = self.param("scale", uniform(2.4 / 4), (1, 1, 1, x.shape[-1]), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, x.shape[-1]), jnp.float32)
        return sum_pool(x, 2, 2) * scale.astype(self.dtype) + bias.astype(self.dtype)


class PartialConv(nn.Module):
    """A 5×5 convolution where map k is connected to the maps inputs[k] alone: its kernel is (5, 5, connections)."""

    inputs: tuple[tuple[int, ...], ...]
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H - 4, W - 4, len(inputs))."""
        sources = np.concatenate(self.inputs)
        fan_ins = np.asarray([len(i) for i in self.inputs])
        targets = np.repeat(np.arange(len(self.inputs)), fan_ins)

        def init(key, shape):  # the weights of a map are as small as its own inputs are many
            bounds = 2.4 / (25 * fan_ins[targets])
            return uniform(1.0)(key, shape) * jnp.asarray(bounds, jnp.float32).reshape(1, 1, -1)

        connected = self.param("kernel", init, (5, 5, len(sources)))
        bias = self.param("bias", nn.initializers.zeros, (len(self.inputs),), jnp.float32)
        kernel = jnp.zeros((5, 5, x.shape[-1], len(self.inputs))).at[:, :, sources, targets].set(connected)
        y = convolve(x, kernel.astype(self.dtype), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class LeNet(Network):
    """What all of them have: a linear head on the mean over all places; without a head, what it would see."""

    num_classes: int = 10

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 32


class LeNet1(LeNet):
    """The network of 1989; without a head (num_classes=0), the 192 units of H4.

    On images larger than its 28×28 the head sees the mean of H4 over all places of its 4×4 window.
    """

    smallest = 28

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 6, W/4 - 6, 192)."""
        conv, _ = self.layers(train)
        x = squash(conv(4, 5, name="H1")(images))
        x = squash(Subsampling(self.dtype, name="H2")(x))
        self.sow("intermediates", "stage1", x)
        x = squash(PartialConv(H3_INPUTS, self.dtype, name="H3")(x))
        x = squash(Subsampling(self.dtype, name="H4")(x))
        self.sow("intermediates", "stage2", x)
        height, width = x.shape[1:3]
        return jnp.concatenate([x[:, i : height - 3 + i, j : width - 3 + j] for i in range(4) for j in range(4)], axis=-1)


class LeNet4(LeNet):
    """Between the two; without a head (num_classes=0), the 120 units of F5."""

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 7, W/4 - 7, 120)."""
        conv, _ = self.layers(train)
        x = squash(conv(4, 5, name="C1")(images))
        x = squash(Subsampling(self.dtype, name="S2")(jnp.repeat(x, 2, axis=-1)))  # two of its maps from each of C1's
        self.sow("intermediates", "stage1", x)
        x = squash(PartialConv(LENET4_C3_INPUTS, self.dtype, name="C3")(x))
        x = squash(Subsampling(self.dtype, name="S4")(x))
        self.sow("intermediates", "stage2", x)
        return squash(conv(120, 5, name="F5")(x))


class LeNet5(LeNet):
    """The paper's network; without a head (num_classes=0), the 84 units of F6."""

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 7, W/4 - 7, 120)."""
        conv, _ = self.layers(train)
        x = squash(conv(6, 5, name="C1")(images))
        x = squash(Subsampling(self.dtype, name="S2")(x))
        self.sow("intermediates", "stage1", x)
        x = squash(PartialConv(C3_INPUTS, self.dtype, name="C3")(x))
        x = squash(Subsampling(self.dtype, name="S4")(x))
        self.sow("intermediates", "stage2", x)
        return squash(conv(120, 5, name="C5")(x))

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, 120) -> (N, num_classes) float32, or (N, 84) if num_classes is 0."""
        return self.logits(squash(self.hidden(x)), train=train)

    def hidden(self, x: jax.Array) -> jax.Array:
        """F6 before its activation: (N, H, W, 120) -> (N, 84)."""
        return nn.Dense(84, kernel_init=self.flavour.kernel_init, name="F6")(global_average_pool(x))


class LeNet5ReLU(LeNet5):
    """The modern form; without a head (num_classes=0), the 84 units of F6."""

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 7, W/4 - 7, 120)."""
        conv, _ = self.layers(train)
        x = max_pool(nn.relu(conv(6, 5, name="C1")(images)), 2, 2)
        self.sow("intermediates", "stage1", x)
        x = max_pool(nn.relu(conv(16, 5, name="C3")(x)), 2, 2)
        self.sow("intermediates", "stage2", x)
        return nn.relu(conv(120, 5, name="C5")(x))

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, 120) -> (N, num_classes) float32, or (N, 84) if num_classes is 0."""
        return self.logits(nn.relu(self.hidden(x)), train=train)


PAPER = Flavour(fan_in_uniform, head_init=fan_in_uniform, head_bias_init=ZEROS, padding=0, conv_bias=True)
RELU = Flavour(he_normal("fan_in"), padding=0, conv_bias=True)

# parameters: for 1 channel and 10 classes
lenet = partial(variant, flavour=PAPER, image_size=32, paper="LeCun et al. 1998")
lenet("lenet1", LeNet1, paper="LeCun et al. 1989")  # 2,578
lenet("lenet4", LeNet4)  # 50,698
lenet("lenet5", LeNet5)  # 60,850, 60,000 of them up to F6
lenet("lenet5_relu", LeNet5ReLU, flavour=RELU)  # 61,706

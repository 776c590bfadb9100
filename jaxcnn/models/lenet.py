"""LeNet-1, LeNet-4 and LeNet-5.

LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel: Handwritten Digit Recognition with a Back-Propagation Network.
NeurIPS 1989; figure 3 and table 1. LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document
Recognition. Proceedings of the IEEE 86(11), 1998; section II.B, figure 2 and table I, and III.C for LeNet-1 and LeNet-4.

`lenet1` is the network of 1989 with the same number of parameters. `lenet4` follows the description in the paper of 1998: 4
maps, 8 subsampled maps (two from each), 16 maps, 120 units. The paper has no table of the connections from 8 to 16 maps; three
inputs per map result in the 260,000 connections that it counts. Its count of 17,000 parameters is not compatible with 120 units
on 16 maps of 5×5, which alone have 48,120.

`lenet5` is the paper's network with the same number of parameters, except for the output layer: the paper has 10 radial basis
functions around 7×12 bitmaps of the digits. Such bitmaps exist only for these classes, and distances are not logits, so a
linear layer replaces them. `lenet5_relu` is the form in textbooks: ReLU, max pooling, and C3 connected to all maps of S2.

Layers have the names in the papers. For 32×32 images a unit of C5 covers its entire input. For larger images C5 remains a
convolution, and its maps are averaged.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import convolve, global_average_pool, he_normal, max_pool, sum_pool, uniform
from jaxcnn.models.network import ZEROS, Flavor, Network
from jaxcnn.models.registry import variant

# Table I: the maps of S2 to which each of the 16 maps of C3 is connected: all triples of neighbors, all quadruples of
# neighbors, three quadruples with a gap, all 6. This breaks the symmetry between maps and reduces the number of connections.
C3_INPUTS = (
    *[(i, (i + 1) % 6, (i + 2) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)],
    (0, 1, 2, 3, 4, 5),
)


# LeNet-1's table 1: the maps of H2 to which each of the 12 maps of H3 is connected, among the first two or the last two.
H3_INPUTS = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)

# LeNet-4's, chosen here: three neighbors among the 8 maps, then three at a distance of two.
LENET4_C3_INPUTS = tuple((i, (i + distance) % 8, (i + 2 * distance) % 8) for distance in (1, 2) for i in range(8))


def squash(a):
    """The activation f(a) = A tanh(S a) with f(±1) = ±1 (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * a)


def fan_in_uniform(key, shape, dtype=jnp.float32, out_sharding=None):
    """The paper's initializer: uniform within ±2.4 / fan in (section III.A)."""
    return uniform(2.4 / math.prod(shape[:-1]))(key, shape, dtype)


class Subsampling(nn.Module):
    """The sum of each 2×2 window, times a coefficient, plus a bias. Each map has one coefficient and one bias."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/2, W/2, C)."""
        scale = self.param("scale", uniform(2.4 / 4), (1, 1, 1, x.shape[-1]), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (1, 1, 1, x.shape[-1]), jnp.float32)
        return sum_pool(x, 2, 2) * scale.astype(self.dtype) + bias.astype(self.dtype)


class PartialConv(nn.Module):
    """A 5×5 convolution in which map k is connected only to the maps inputs[k]. Its kernel is (5, 5, connections)."""

    inputs: tuple[tuple[int, ...], ...]
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H - 4, W - 4, len(inputs))."""
        sources = np.concatenate(self.inputs)
        fan_ins = np.asarray([len(i) for i in self.inputs])
        targets = np.repeat(np.arange(len(self.inputs)), fan_ins)

        def init(key, shape):  # the bound of a map's weights depends on its number of inputs
            bounds = 2.4 / (25 * fan_ins[targets])
            return uniform(1.0)(key, shape) * jnp.asarray(bounds, jnp.float32).reshape(1, 1, -1)

        connected = self.param("kernel", init, (5, 5, len(sources)))
        bias = self.param("bias", nn.initializers.zeros, (len(self.inputs),), jnp.float32)
        kernel = jnp.zeros((5, 5, x.shape[-1], len(self.inputs))).at[:, :, sources, targets].set(connected)
        y = convolve(x, kernel.astype(self.dtype), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


class LeNet(Network):
    """The base class: a backbone, global average pool and a linear head. The minimum image size is 32×32."""

    num_classes: int = 10

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 32


class LeNet1(LeNet):
    """The network of 1989. With num_classes=0 it returns the 192 units of H4.

    For images larger than 28×28 the head's input is the mean of all 4×4 windows of H4.
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
    """LeNet-4. With num_classes=0 it returns the 120 units of F5."""

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4 - 7, W/4 - 7, 120)."""
        conv, _ = self.layers(train)
        x = squash(conv(4, 5, name="C1")(images))
        x = squash(Subsampling(self.dtype, name="S2")(jnp.repeat(x, 2, axis=-1)))  # two maps of S2 from each map of C1
        self.sow("intermediates", "stage1", x)
        x = squash(PartialConv(LENET4_C3_INPUTS, self.dtype, name="C3")(x))
        x = squash(Subsampling(self.dtype, name="S4")(x))
        self.sow("intermediates", "stage2", x)
        return squash(conv(120, 5, name="F5")(x))


class LeNet5(LeNet):
    """The paper's LeNet-5. With num_classes=0 it returns the 84 units of F6."""

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
        """Computes F6 before its activation: (N, H, W, 120) -> (N, 84)."""
        return nn.Dense(84, kernel_init=self.flavor.kernel_init, name="F6")(global_average_pool(x))


class LeNet5ReLU(LeNet5):
    """LeNet-5 with ReLU and max pooling. With num_classes=0 it returns the 84 units of F6."""

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


PAPER = Flavor(fan_in_uniform, head_init=fan_in_uniform, head_bias_init=ZEROS, padding=0, conv_bias=True)
RELU = Flavor(he_normal("fan_in"), padding=0, conv_bias=True)

# numbers of parameters for 1 channel and 10 classes
lenet = partial(variant, flavor=PAPER, image_size=32, paper="LeCun et al. 1998")
lenet("lenet1", LeNet1, paper="LeCun et al. 1989")  # 2,578
lenet("lenet4", LeNet4)  # 50,698
lenet("lenet5", LeNet5)  # 60,850, of which 60,000 up to F6
lenet("lenet5_relu", LeNet5ReLU, flavor=RELU)  # 61,706

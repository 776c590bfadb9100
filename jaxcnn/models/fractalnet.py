"""FractalNet.

Larsson, Maire, Shakhnarovich: FractalNet: Ultra-Deep Neural Networks without Residuals. ICLR 2017, arXiv:1605.07648;
equation 1, figures 1 and 2, section 4.1. A block is f_C(x) = join(conv(x), f_{C-1}(f_{C-1}(x))). It has C columns, the deepest
of which has 2^(C-1) convolutions. A join averages all columns that end at it. Initialized as in Caffe's "xavier", which the
paper names: uniform by fan in. Paths are drawn per image; the paper draws them per batch.
"""

from collections.abc import Callable, Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import max_pool
from jaxcnn.models.network import ZEROS, Flavor, Network
from jaxcnn.models.registry import variant
from jaxcnn.settings import Share

UNIFORM = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
XAVIER = Flavor(UNIFORM, head_init=UNIFORM, head_bias_init=ZEROS)


class FractalBlock(nn.Module):
    """The columns up to their last join, and a 2×2 max pool."""

    columns: int
    filters: int
    drop_path: float
    dropout: float
    train: bool
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x, column):
        """Maps (N, H, W, C) and the only active column of each image (N,), or -1 for all -> (N, H/2, W/2, filters)."""
        x = self._join(self._columns(x, self.columns, column, iter(range(1, 2**self.columns))), column)
        x = max_pool(x, 2, 2)
        self.sow("intermediates", "__call__", x)  # the network cannot sow under the name of a submodule
        return x

    def _columns(self, x: jax.Array, count: int, column: jax.Array, numbers: Iterator[int]) -> list[jax.Array]:
        """Returns the outputs of the deepest `count` columns for x, the shallowest first."""
        first = self._unit(x, next(numbers))
        if count == 1:
            return [first]
        half = self._join(self._columns(x, count - 1, column, numbers), column)
        return [first, *self._columns(half, count - 1, column, numbers)]

    def _unit(self, x: jax.Array, number: int) -> jax.Array:
        x = self.conv(self.filters, 3, name=f"conv{number}")(x)
        x = self.norm(name=f"norm{number}", activation=nn.relu)(x)
        return nn.Dropout(self.dropout, deterministic=not self.train)(x)

    def _join(self, inputs: list[jax.Array], column: jax.Array) -> jax.Array:
        """Returns the mean of the inputs on the paths drawn for each image. The inputs belong to the deepest columns."""
        if len(inputs) == 1:
            return inputs[0]
        stacked = jnp.stack(inputs)
        if not self.train:
            return stacked.mean(0)
        n = stacked.shape[1]
        keep_key, last_key = jax.random.split(self.make_rng("dropout"))
        local = jax.random.bernoulli(keep_key, 1 - self.drop_path, (len(inputs), n))
        survivor = jax.random.randint(last_key, (1, n), 0, len(inputs))
        index = jnp.arange(len(inputs)).reshape(-1, 1)
        local = jnp.where(local.any(0, keepdims=True), local, index == survivor)
        only = index + self.columns - len(inputs) == column.reshape(1, n)  # all False if that column does not end here
        active = jnp.where(column.reshape(1, n) < 0, local, only).astype(jnp.float32)
        weights = active / jnp.maximum(active.sum(0, keepdims=True), 1)
        return (stacked * weights.astype(stacked.dtype).reshape(len(inputs), n, 1, 1, 1)).sum(0)


class FractalNet(Network, kw_only=True):
    """Fractal blocks, each with a 2×2 max pool; global average pool, linear head.

    In training, an image uses a single column, the same in all blocks, with probability `global_drop_path` (global drop path).
    Otherwise each input of a join is dropped with probability `drop_path_rate`, but never all of them (local drop path).
    Dropout follows each convolution, with a rate that grows linearly from 0 in the first block to `drop_rate` in the last.
    """

    flavor: Flavor = XAVIER
    columns: int
    widths: tuple[int, ...]  # channels of each block
    num_classes: int = 10
    drop_rate: Share = 0.4
    drop_path_rate: Share = 0.15
    global_drop_path: Share = 0.5

    head_dropout = False

    @property
    def smallest(self) -> int:
        """The minimum height and width of images, of which the pools leave one pixel."""
        return 2 ** len(self.widths)

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', F). Each block halves height and width."""
        conv, norm = self.layers(train)
        column = jnp.full(images.shape[:1], -1)
        if train:
            column_key, global_key = jax.random.split(self.make_rng("dropout"))
            single = jax.random.bernoulli(global_key, self.global_drop_path, column.shape)
            column = jnp.where(single, jax.random.randint(column_key, column.shape, 0, self.columns), column)

        x = images
        for stage, filters in enumerate(self.widths, start=1):
            dropout = self.drop_rate * (stage - 1) / (len(self.widths) - 1)
            block = FractalBlock(self.columns, filters, self.drop_path_rate, dropout, train, conv, norm, name=f"stage{stage}")
            x = self.run(block, x, column)
        return x


fractalnet = partial(variant, module=FractalNet, image_size=32, paper="arXiv:1605.07648")
fractalnet("fractalnet20", columns=3, widths=(64, 128, 256, 512, 512))  # 33.7 M parameters; 38.6 M in the paper

"""What the mobile families share: their blocks, and the table of rows that gives a network's.

A row of a table is some blocks alike, as in the papers' tables. From MobileNet v1 to v4 a block is a depthwise convolution
between pointwise ones, with a shortcut around it where the size stays:

    separable   depthwise, project                       (MobileNet v1, arXiv:1704.04861; there activated, without shortcut)
    inverted    expand, depthwise, project               (MobileNet v2, arXiv:1801.04381, figure 4)
    fused       expand with the block's kernel, project  (EfficientNetV2, arXiv:2104.00298, figure 2)
    universal   depthwise, expand, depthwise, project    (MobileNet v4, arXiv:2404.10518, figure 4)

The libraries differ in padding, norm and initialisation: that is the Flavour.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import Activation, SqueezeExcite, StochasticDepth, conv, he_normal, identity
from jaxcnn.layers.conv import Padding

Initializer = jax.nn.initializers.Initializer
Kind = Literal["separable", "separable_activated", "inverted", "fused", "universal", "conv"]


class Row(NamedTuple):
    """A line of a table: `repeats` blocks, of which the first has the stride."""

    kind: Kind
    kernel: int | tuple[int, ...]  # of several sizes, each for a part of the channels (MixNet)
    stride: int
    expansion: float
    width: int
    repeats: int = 1
    squeeze_excite: float = 0
    activation: Activation | None = None  # None: the network's
    start: int = 0  # kernel of the depthwise convolution before the expansion; 0: none
    parts: tuple[int, int] = (1, 1)  # in how many parts of the channels the expansion and the projection are made (MixNet)


Stages = tuple[Row | tuple[Row, ...], ...]


class Flavour(NamedTuple):
    """What a library does in its own way; by default, as torchvision."""

    epsilon: float = 1e-5
    momentum: float = 0.1
    unbiased: bool = True
    padding: Padding | None = None
    strided_padding: Padding | None = None  # of depthwise convolutions with a stride, if it is another
    kernel_init: Initializer = he_normal("fan_out")
    depthwise_init: Initializer = he_normal("fan_out")
    head_init: Initializer = nn.initializers.normal(0.01)
    conv_head: bool = False
    conv_hidden: bool = False


TORCHVISION = Flavour()
KERAS = Flavour(
    epsilon=1e-3,
    momentum=0.01,
    unbiased=False,
    padding="SAME",
    kernel_init=nn.initializers.glorot_uniform(),
    depthwise_init=nn.initializers.glorot_uniform(),
    head_init=nn.initializers.glorot_uniform(),
)
HEAD_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # ±1/sqrt(classes): EfficientNet's
TIMM = Flavour(depthwise_init=he_normal("fan_in"), head_init=HEAD_UNIFORM, conv_hidden=True)
TIMM_TF = TIMM._replace(epsilon=1e-3, padding="SAME")


class Block(NamedTuple):
    """A block with its numbers of channels, as a row and the one before make it."""

    stage: int
    number: int
    row: Row
    stride: int
    expanded: int
    width: int
    squeezed: int
    activation: Activation
    drop_rate: float

    @property
    def name(self) -> str:
        """As in the variables."""
        return f"stage{self.stage}_block{self.number}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Its layers in order; a fused block that does not expand is a single convolution."""
        kind = self.row.kind
        there = {
            "start_depthwise": self.row.start,
            "expand": kind in ("inverted", "universal") or (kind == "fused" and self.row.expansion != 1),
            "depthwise": kind not in ("fused", "conv") and self.row.kernel,
            "squeeze_excite": self.squeezed,
            "project": True,
        }
        return tuple(part for part, is_there in there.items() if is_there)


def divisible(channels: float, by: int = 8, limit: float = 0.9) -> int:
    """The nearest multiple, or the next one if that would be less than `limit` of the channels."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < limit * channels else rounded


def from_input(inputs: int, expanded: int, ratio: float) -> int:
    """Units of squeeze-excitation, counted from the block's input channels."""
    return max(1, int(inputs * ratio))


def from_expanded(inputs: int, expanded: int, ratio: float) -> int:
    """… from its expanded ones (MobileNet v3)."""
    return divisible(expanded * ratio)


def make_blocks(
    stages: Stages,
    stem: int,
    activation: Activation,
    *,
    width: Callable[[int], int] = int,
    depth: Callable[[int], int] = int,
    squeezed: Callable[[int, int, float], int] = from_input,
    drop_rate: float = 0.0,
    drop_steps: int | None = None,
) -> tuple[Block, ...]:
    """The blocks of a table: widths and repeats go through `width` and `depth`.

    The rate of stochastic depth grows from 0 by drop_rate / drop_steps a block, by default to almost drop_rate.
    """
    rows = [(stage_number, row) for stage_number, stage in enumerate(stages, start=1) for row in rows_of(stage)]
    steps = drop_steps or sum(depth(row.repeats) for _, row in rows)
    blocks: list[Block] = []
    inputs = stem
    for stage, row in rows:
        for repeat in range(depth(row.repeats)):
            number = blocks[-1].number + 1 if blocks and blocks[-1].stage == stage else 1
            expanded = divisible(inputs * row.expansion) if row.expansion != 1 else inputs
            blocks.append(
                Block(
                    stage,
                    number,
                    row,
                    row.stride if repeat == 0 else 1,
                    expanded,
                    width(row.width),
                    squeezed(inputs, expanded, row.squeeze_excite) if row.squeeze_excite else 0,
                    row.activation or activation,
                    drop_rate * len(blocks) / steps,
                )
            )
            inputs = blocks[-1].width
    return tuple(blocks)


def rows_of(stage: Row | tuple[Row, ...]) -> tuple[Row, ...]:
    """A stage of one row may stand as that row."""
    return (stage,) if isinstance(stage, Row) else stage


class MobileBlock(nn.Module):
    """One block of any kind; `block` says which."""

    block: Block
    flavour: Flavour
    squeeze_activation: Activation
    gate: Activation
    norm: Callable
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x, train: bool):
        """(N, H, W, C) -> (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
        block, row, parts = self.block, self.block.row, self.block.parts
        y = x
        if "start_depthwise" in parts:
            y = self.depthwise(y, row.start, 1 if row.kernel else block.stride, identity, name="start_depthwise")
        if "expand" in parts:
            kernel, stride = (row.kernel, block.stride) if row.kind == "fused" else (1, 1)
            y = self.dense(y, block.expanded, (kernel,) * row.parts[0], stride, block.activation, name="expand")
        if "depthwise" in parts:
            y = self.depthwise(y, row.kernel, block.stride, block.activation, name="depthwise")
        if "squeeze_excite" in parts:
            y = SqueezeExcite(
                block.squeezed,
                self.squeeze_activation,
                self.gate,
                kernel_init=self.flavour.kernel_init,
                dtype=self.dtype,
                name="squeeze_excite",
            )(y)
        single = parts == ("project",)
        kernel, stride = (row.kernel, block.stride) if single else (1, 1)
        activation = block.activation if single or row.kind == "separable_activated" else identity
        y = self.dense(y, block.width, (kernel,) * row.parts[1], stride, activation, name="project")
        if block.stride == 1 and x.shape == y.shape and row.kind not in ("conv", "separable_activated"):
            y = x + StochasticDepth(block.drop_rate)(y, train=train)
        return y

    def dense(self, x, features, kernels, stride, activation, name):
        """Convolution over all channels of each part, norm and activation."""
        make = partial(conv, padding=self.flavour.padding, kernel_init=self.flavour.kernel_init, dtype=self.dtype)
        x = mixed(x, kernels, lambda part, kernel, share, label: make(share(features), kernel, stride, name=label)(part), name)
        return self.norm(name=f"{name}_norm", activation=activation)(x)

    def depthwise(self, x, kernel, stride, activation, name):
        """Convolution of each channel for itself, norm and activation."""
        flavour = self.flavour
        padding = flavour.strided_padding if stride > 1 and flavour.strided_padding is not None else flavour.padding
        make = partial(conv, stride=stride, padding=padding, kernel_init=flavour.depthwise_init, dtype=self.dtype)

        def apply(part, kernel, share, label):
            channels = part.shape[-1]
            return make(channels, kernel, groups=channels, name=label)(part)

        x = mixed(x, kernel if isinstance(kernel, tuple) else (kernel,), apply, name)
        return self.norm(name=f"{name}_norm", activation=activation)(x)


def mixed(x, kernels, apply, name):
    """Each part of the channels through a convolution with a kernel of its own, arXiv:1907.09595; usually one part."""
    if len(kernels) == 1:
        return apply(x, kernels[0], int, f"{name}_conv")

    def share(channels, part):  # the first takes what is left over
        size = channels // len(kernels)
        return size + channels % len(kernels) if part == 0 else size

    edges = [sum(share(x.shape[-1], before) for before in range(part)) for part in range(1, len(kernels))]
    parts = jnp.split(x, edges, axis=-1)
    return jnp.concatenate(
        [
            apply(part, kernel, partial(share, part=number), f"{name}_conv{number + 1}")
            for number, (part, kernel) in enumerate(zip(parts, kernels, strict=True))
        ],
        axis=-1,
    )

"""The blocks of mobile networks, and the tables (`Design`) that describe such networks.

A `Row` of a design describes equal blocks, as in the papers' tables. A block consists of depthwise and pointwise convolutions,
with a shortcut if its input and output have the same shape. Its kinds are:

    separable            depthwise, project (linear)
    separable_activated  depthwise, project (with activation), no shortcut: MobileNet V1, arXiv:1704.04861
    inverted             expand, depthwise, project: MobileNet V2, arXiv:1801.04381, figure 4
    fused                expand with the block's kernel size, project: EfficientNetV2, arXiv:2104.00298, figure 2
    universal            depthwise, expand, depthwise, project: MobileNet V4, arXiv:2404.10518, figure 4
    conv                 a single convolution without shortcut

`BlockSpec` describes a block with its numbers of channels, and `MobileBlock` is the module.
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxcnn.layers import Activation, SqueezeExcite, StochasticDepth, identity
from jaxcnn.layers.conv import Padding
from jaxcnn.models.network import Flavor

Kind = Literal["separable", "separable_activated", "inverted", "fused", "universal", "conv"]


class Row(NamedTuple):
    """A row of a table of blocks: `repeats` equal blocks, except that only the first has the stride."""

    kind: Kind
    kernel: int | tuple[int, ...]
    """kernel size; several sizes are for equal groups of channels (MixNet); 0 in a universal block: no second depthwise"""
    stride: int
    expansion: float
    """ratio of expanded channels to input channels"""
    width: int
    """output channels"""
    repeats: int = 1
    squeeze_excite: float = 0
    """ratio of squeezed channels to input channels (with `hard_squeeze`: to expanded channels); 0: none"""
    activation: Activation | None = None
    """None: the activation of the design"""
    start_kernel: int = 0
    """kernel size of the depthwise convolution before the expansion; 0: none"""
    groups: tuple[int, int] = (1, 1)
    """numbers of channel groups with separate convolutions in expansion and projection (MixNet)"""


Stages = tuple[Row | tuple[Row, ...], ...]


class BlockSpec(NamedTuple):
    """Describes a block with its numbers of channels."""

    stage: int
    number: int
    """position in the stage, from 1"""
    row: Row
    """the row of its table, with the stride of this block"""
    expanded: int
    """channels after the expansion"""
    squeezed: int
    """channels inside the squeeze-and-excitation; 0: none"""
    activation: Activation

    @property
    def name(self) -> str:
        """The name of the block in the variables."""
        return f"stage{self.stage}_block{self.number}"

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers in order. A fused block with expansion 1 is a single convolution."""
        kind = self.row.kind
        present = {
            "start_depthwise": self.row.start_kernel,
            "expand": kind in ("inverted", "universal") or (kind == "fused" and self.row.expansion != 1),
            "depthwise": kind not in ("fused", "conv") and self.row.kernel,
            "squeeze_excite": self.squeezed,
            "project": True,
        }
        return tuple(layer for layer, is_present in present.items() if is_present)


def divisible(channels: float, by: int = 8, limit: float = 0.9) -> int:
    """Rounds channels to a multiple of `by`, up if rounding down would leave less than limit · channels."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < limit * channels else rounded


def wider(factor: float, limit: float = 0.9) -> Callable[[int], int]:
    """Returns a function that multiplies channels by `factor` and rounds them to multiples of 8."""
    return lambda channels: divisible(channels * factor, limit=limit)


class Design(NamedTuple):
    """Describes a network: the table of its blocks, and the layers before and after them."""

    stages: Stages
    stem: int
    """channels of the stem"""
    last: int
    """channels of the 1×1 convolution before the pool; 0: none"""
    activation: Activation
    hidden: int = 0
    """units of a layer between the pool and the head; 0: none"""
    hidden_norm: bool = False
    """the hidden layer has batch norm"""
    conv_hidden: bool = False
    """the hidden layer is a 1×1 convolution"""
    conv_head: bool = False
    """the head is a 1×1 convolution"""
    strided_padding: Padding | None = None
    """padding of depthwise convolutions with a stride; None: the flavor's"""
    hard_squeeze: bool = False
    """squeeze-and-excitation has MobileNet V3's form: ReLU and hard sigmoid"""
    dilate_strided: bool = False
    """with `output_stride`, the convolution whose stride is replaced is dilated too"""
    drop_steps: int = 0
    """the number of blocks over which the rate of stochastic depth grows to drop_path_rate; 0: all"""

    def changed(self, row: Callable[[Row], Row]) -> "Design":
        """Returns the design with `row` applied to each of its rows."""
        return self._replace(stages=tuple(tuple(map(row, rows)) for rows in self.rows))

    def scaled(self, width: Callable[[int], int], depth: Callable[[int], int] = int) -> "Design":
        """Returns the design with `width` applied to the channels and `depth` to the repeats of each row."""
        return self.changed(lambda row: row._replace(width=width(row.width), repeats=depth(row.repeats)))

    @property
    def rows(self) -> tuple[tuple[Row, ...], ...]:
        """The rows of each stage."""
        return tuple((stage,) if isinstance(stage, Row) else stage for stage in self.stages)

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """All blocks, in order."""
        blocks: list[BlockSpec] = []
        inputs = self.stem
        for stage, rows in enumerate(self.rows, start=1):
            repeated = [row._replace(stride=1 if n else row.stride) for row in rows for n in range(row.repeats)]
            for number, row in enumerate(repeated, start=1):
                expanded = divisible(inputs * row.expansion) if row.expansion != 1 else inputs
                ratio = row.squeeze_excite
                squeezed = divisible(expanded * ratio) if self.hard_squeeze else max(1, int(inputs * ratio))
                activation = row.activation or self.activation
                blocks.append(BlockSpec(stage, number, row, expanded, squeezed if ratio else 0, activation))
                inputs = row.width
        return tuple(blocks)


class MobileBlock(nn.Module):
    """A block of any kind, described by `block`."""

    block: BlockSpec
    design: Design
    stride: int
    dilation: int
    drop_rate: float  # rate of stochastic depth; 0 in evaluation
    flavor: Flavor
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
        block, row, layers = self.block, self.block.row, self.block.layers
        stride, activation = self.stride, block.activation
        y = x
        if "start_depthwise" in layers:
            y = self.layer(y, "start_depthwise", (row.start_kernel,), stride=1 if row.kernel else stride)
        if "expand" in layers:
            kernel, strided = (row.kernel, stride) if row.kind == "fused" else (1, 1)
            y = self.layer(y, "expand", (kernel,) * row.groups[0], block.expanded, strided, activation)
        if "depthwise" in layers:
            kernels = row.kernel if isinstance(row.kernel, tuple) else (row.kernel,)
            y = self.layer(y, "depthwise", kernels, stride=stride, activation=activation)
        if "squeeze_excite" in layers:
            inner, gate = (nn.relu, nn.hard_sigmoid) if self.design.hard_squeeze else (activation, nn.sigmoid)
            init = self.flavor.kernel_init
            y = SqueezeExcite(block.squeezed, inner, gate, kernel_init=init, dtype=x.dtype, name="squeeze_excite")(y)
        single = layers == ("project",)
        kernel, strided = (row.kernel, stride) if single else (1, 1)
        activation = activation if single or row.kind == "separable_activated" else identity
        y = self.layer(y, "project", (kernel,) * row.groups[1], row.width, strided, activation)
        if row.stride == 1 and x.shape == y.shape and row.kind not in ("conv", "separable_activated"):
            y = x + StochasticDepth(self.drop_rate)(y, train=True)
        return y

    def layer(self, x, name, kernels, features=0, stride=1, activation=identity):
        """Applies convolution, norm and activation: (N, H, W, C) -> (N, H', W', features). Depthwise if features is 0.

        With several kernel sizes, the channels are split into as many groups (MixNet, arXiv:1907.09595).
        """

        def split(channels):  # the first group has the remainder
            size, rest = divmod(channels, len(kernels))
            return [size + rest, *[size] * (len(kernels) - 1)]

        conv = self.flavor.conv(x.dtype)
        if not features:
            conv = partial(conv, kernel_init=self.flavor.grouped_init or self.flavor.kernel_init)
            if stride > 1 and self.design.strided_padding:
                conv = partial(conv, padding=self.design.strided_padding)
        inputs = split(x.shape[-1])
        maps = jnp.split(x, list(accumulate(inputs[:-1])), axis=-1) if len(kernels) > 1 else [x]
        widths, outputs = split(features) if features else inputs, []
        for number, (group, kernel, width) in enumerate(zip(maps, kernels, widths, strict=True), start=1):
            label = f"{name}_conv{number if len(kernels) > 1 else ''}"
            groups, dilation = 1 if features else width, self.dilation if kernel > 1 else 1
            outputs.append(conv(width, kernel, stride, groups=groups, dilation=dilation, name=label)(group))
        y = jnp.concatenate(outputs, axis=-1) if len(kernels) > 1 else outputs[0]
        return self.norm(name=f"{name}_norm", activation=activation)(y)

"""What the mobile families share: their blocks, and the Design that gives a network's.

A row of a design is some blocks alike, as in the papers' tables. From MobileNet v1 to v4 a block is a depthwise convolution
between pointwise ones, with a shortcut around it where the size stays:

    separable   depthwise, project                       (MobileNet v1, arXiv:1704.04861; there activated, without shortcut)
    inverted    expand, depthwise, project               (MobileNet v2, arXiv:1801.04381, figure 4)
    fused       expand with the block's kernel, project  (EfficientNetV2, arXiv:2104.00298, figure 2)
    universal   depthwise, expand, depthwise, project    (MobileNet v4, arXiv:2404.10518, figure 4)
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxcnn.layers import Activation, SqueezeExcite, StochasticDepth, identity
from jaxcnn.layers.conv import Padding
from jaxcnn.models.network import Flavour

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


class BlockSpec(NamedTuple):
    """A block with its numbers of channels, as a row and the one before make it."""

    stage: int
    number: int
    row: Row  # with the stride of this block
    expanded: int
    squeezed: int
    activation: Activation

    @property
    def name(self) -> str:
        """As in the variables."""
        return f"stage{self.stage}_block{self.number}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Its layers in order; a fused block that does not expand is a single convolution."""
        kind = self.row.kind
        present = {
            "start_depthwise": self.row.start,
            "expand": kind in ("inverted", "universal") or (kind == "fused" and self.row.expansion != 1),
            "depthwise": kind not in ("fused", "conv") and self.row.kernel,
            "squeeze_excite": self.squeezed,
            "project": True,
        }
        return tuple(part for part, is_present in present.items() if is_present)


def divisible(channels: float, by: int = 8, limit: float = 0.9) -> int:
    """The nearest multiple, or the next one if that would be less than `limit` of the channels."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < limit * channels else rounded


def wider(factor: float, limit: float = 0.9) -> Callable[[int], int]:
    """`factor` times as many channels, in multiples of 8."""
    return lambda channels: divisible(channels * factor, limit=limit)


class Design(NamedTuple):
    """A network by its paper's table, and what is around the blocks."""

    stages: Stages
    stem: int
    last: int  # features of the last convolution, before the pool; 0: none
    activation: Activation
    hidden: int = 0  # features of a layer between the pool and the head; 0: none
    hidden_norm: bool = False
    conv_hidden: bool = False  # its kernel is a 1×1 convolution's
    conv_head: bool = False
    strided_padding: Padding | None = None  # of depthwise convolutions with a stride, if it is another
    hard_squeeze: bool = False  # squeeze-excitation is MobileNet v3's
    dilate_strided: bool = False  # output_stride dilates also the convolutions that lose their stride
    drop_steps: int = 0  # in how many steps stochastic depth reaches its rate; 0: as many as there are blocks

    def changed(self, row: Callable[[Row], Row]) -> "Design":
        """With other rows."""
        return self._replace(stages=tuple(tuple(map(row, rows)) for rows in self.rows))

    def scaled(self, width: Callable[[int], int], depth: Callable[[int], int] = int) -> "Design":
        """With other widths and repeats of its blocks."""
        return self.changed(lambda row: row._replace(width=width(row.width), repeats=depth(row.repeats)))

    @property
    def rows(self) -> tuple[tuple[Row, ...], ...]:
        """Of each stage; a stage of one row may stand as that row."""
        return tuple((stage,) if isinstance(stage, Row) else stage for stage in self.stages)

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """All of them."""
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
    """One block of any kind; `block` says which."""

    block: BlockSpec
    design: Design
    stride: int
    dilation: int
    drop_rate: float  # of stochastic depth; 0 in evaluation
    flavour: Flavour
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
        block, row, parts = self.block, self.block.row, self.block.parts
        stride, activation = self.stride, block.activation
        y = x
        if "start_depthwise" in parts:
            y = self.layer(y, "start_depthwise", (row.start,), stride=1 if row.kernel else stride)
        if "expand" in parts:
            kernel, strided = (row.kernel, stride) if row.kind == "fused" else (1, 1)
            y = self.layer(y, "expand", (kernel,) * row.parts[0], block.expanded, strided, activation)
        if "depthwise" in parts:
            kernels = row.kernel if isinstance(row.kernel, tuple) else (row.kernel,)
            y = self.layer(y, "depthwise", kernels, stride=stride, activation=activation)
        if "squeeze_excite" in parts:
            inner, gate = (nn.relu, nn.hard_sigmoid) if self.design.hard_squeeze else (activation, nn.sigmoid)
            init = self.flavour.kernel_init
            y = SqueezeExcite(block.squeezed, inner, gate, kernel_init=init, dtype=x.dtype, name="squeeze_excite")(y)
        single = parts == ("project",)
        kernel, strided = (row.kernel, stride) if single else (1, 1)
        activation = activation if single or row.kind == "separable_activated" else identity
        y = self.layer(y, "project", (kernel,) * row.parts[1], row.width, strided, activation)
        if row.stride == 1 and x.shape == y.shape and row.kind not in ("conv", "separable_activated"):
            y = x + StochasticDepth(self.drop_rate)(y, train=True)
        return y

    def layer(self, x, name, kernels, features=0, stride=1, activation=identity):
        """Convolution, norm and activation; without `features`, of each channel for itself.

        With several kernels, each is for a part of the channels, arXiv:1907.09595.
        """

        def shares(channels):  # the first takes what is left over
            size, rest = divmod(channels, len(kernels))
            return [size + rest, *[size] * (len(kernels) - 1)]

        conv = self.flavour.conv(x.dtype)
        if not features:
            conv = partial(conv, kernel_init=self.flavour.grouped_init or self.flavour.kernel_init)
            if stride > 1 and self.design.strided_padding:
                conv = partial(conv, padding=self.design.strided_padding)
        inputs = shares(x.shape[-1])
        parts = jnp.split(x, list(accumulate(inputs[:-1])), axis=-1) if len(kernels) > 1 else [x]
        widths, outputs = shares(features) if features else inputs, []
        for number, (part, kernel, width) in enumerate(zip(parts, kernels, widths, strict=True), start=1):
            label = f"{name}_conv{number if len(kernels) > 1 else ''}"
            groups, dilation = 1 if features else width, self.dilation if kernel > 1 else 1
            outputs.append(conv(width, kernel, stride, groups=groups, dilation=dilation, name=label)(part))
        y = jnp.concatenate(outputs, axis=-1) if len(kernels) > 1 else outputs[0]
        return self.norm(name=f"{name}_norm", activation=activation)(y)

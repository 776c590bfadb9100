"""Inception modules as data: the branches of a module are tuples of layer descriptions.

    ((ConvSpec(64),), (ConvSpec(48), ConvSpec(64, 5)), (AVERAGE_POOL, ConvSpec(32)))

describes three branches whose outputs are concatenated. A tuple in place of a `ConvSpec` describes convolutions of the same
input, whose outputs are concatenated: (ConvSpec(384), (ConvSpec(384, (1, 3)), ConvSpec(384, (3, 1)))).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.pool import average_pool, max_pool


class ConvSpec(NamedTuple):
    """Describes a convolution with batch norm and ReLU."""

    features: int
    size: int | tuple[int, int] = 1
    """kernel size: one number, or (height, width)"""
    stride: int = 1
    padding: int | None = None
    """pixels on each side; None: half the kernel size, which keeps height and width at stride 1; 0: TensorFlow's "VALID" """


class PoolSpec(NamedTuple):
    """Describes a pooling layer."""

    kind: Literal["max", "average"]
    size: int = 3
    stride: int = 1
    padding: int = 1
    ceil_mode: bool = False
    """of `max_pool`; average pooling ignores it"""


AVERAGE_POOL = PoolSpec("average")
"""Means of 3×3 windows, with stride 1."""

LayerSpecs = Sequence[ConvSpec | PoolSpec | tuple[ConvSpec, ...]]
"""A chain of layers; a tuple describes convolutions of the same input, whose outputs are concatenated."""


def conv_numbers(specs: LayerSpecs) -> Iterator[str]:
    """Yields the numbers that the convolutions have in layer names, in order: "1", "2", "3a", "3b" if the third is a pair."""
    convs = (spec for spec in specs if not isinstance(spec, PoolSpec))
    for number, spec in enumerate(convs, start=1):
        yield from [str(number)] if isinstance(spec, ConvSpec) else [f"{number}{'abc'[index]}" for index in range(len(spec))]


def sequence(
    x: jax.Array,
    specs: LayerSpecs,
    *,
    prefix: str,
    conv: Callable,
    norm: Callable,
    count_padding: bool = True,
) -> jax.Array:
    """Applies the described layers one after the other: (N, H, W, C) -> (N, H', W', C').

    Must be called in a compact method. The layers are named {prefix}conv1, {prefix}norm1, {prefix}conv2, …; but the first
    convolution of a stem is "stem_conv", as in every network. `conv` and `norm` create them, as from `Network.layers`.
    `count_padding` is passed to `average_pool`.
    """
    numbers = conv_numbers(specs)

    def unit(x, spec):
        number = next(numbers)
        number = "" if (prefix, number) == ("stem_", "1") else number
        x = conv(spec.features, spec.size, spec.stride, padding=spec.padding, name=f"{prefix}conv{number}")(x)
        return norm(name=f"{prefix}norm{number}", activation=nn.relu)(x)

    for spec in specs:
        if isinstance(spec, ConvSpec):
            x = unit(x, spec)
        elif not isinstance(spec, PoolSpec):
            x = jnp.concatenate([unit(x, conv_spec) for conv_spec in spec], axis=-1)
        elif spec.kind == "max":
            x = max_pool(x, spec.size, spec.stride, padding=spec.padding, ceil_mode=spec.ceil_mode)
        else:
            x = average_pool(x, spec.size, spec.stride, padding=spec.padding, count_padding=count_padding)
    return x


def branched(x: jax.Array, branches: Sequence[LayerSpecs], **options: Any) -> jax.Array:
    """Applies branches to one input and concatenates their outputs: (N, H, W, C) -> (N, H', W', sum of their C').

    The layers of branch b are named branch{b}_conv{n} and branch{b}_norm{n}. `options` are the other arguments of `sequence`.
    """
    outputs = [sequence(x, specs, prefix=f"branch{b}_", **options) for b, specs in enumerate(branches, start=1)]
    return jnp.concatenate(outputs, axis=-1)


class Branches(nn.Module):
    """`branched` as a module."""

    branches: tuple[LayerSpecs, ...]
    conv: Callable
    norm: Callable
    count_padding: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', sum of the branches' C')."""
        return branched(x, self.branches, conv=self.conv, norm=self.norm, count_padding=self.count_padding)

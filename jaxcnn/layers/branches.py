"""Inception modules: branches of convolutions side by side, each written as data.

    ((Conv(64),), (Conv(48), Conv(64, 5)), (AVERAGE_POOL, Conv(32)))

are three branches, whose outputs are concatenated; (Conv(384), (Conv(384, (1, 3)), Conv(384, (3, 1)))) is one that ends in two.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers.pool import average_pool, max_pool


class Conv(NamedTuple):
    """A convolution, batch norm, ReLU."""

    features: int
    size: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | None = None  # None keeps the size, 0 is TensorFlow's "VALID"


class Pool(NamedTuple):
    """Pooling over 3×3 windows, as a rule."""

    kind: Literal["max", "average"]
    size: int = 3
    stride: int = 1
    padding: int = 1
    ceil_mode: bool = False  # max_pool's


AVERAGE_POOL = Pool("average")
Steps = Sequence[Conv | Pool | tuple[Conv, ...]]


def conv_numbers(steps: Steps) -> Iterator[str]:
    """How the convolutions are numbered, in their order: "1", "2", "3a", "3b" where the third are two side by side."""
    for number, step in enumerate((step for step in steps if not isinstance(step, Pool)), start=1):
        yield from [str(number)] if isinstance(step, Conv) else [f"{number}{'abc'[part]}" for part in range(len(step))]


def sequence(
    x: jax.Array,
    steps: Steps,
    *,
    prefix: str,
    conv: Callable,
    norm: Callable,
    count_padding: bool = True,
) -> jax.Array:
    """(N, H, W, C) -> (N, H', W', C'): one step after the other; the layers are {prefix}conv1, {prefix}norm1, ….

    The stem's first is stem_conv, as in every network. `count_padding` is average_pool's.
    """
    numbers = conv_numbers(steps)

    def unit(x, step):
        number = next(numbers)
        number = "" if (prefix, number) == ("stem_", "1") else number
        x = conv(step.features, step.size, step.stride, padding=step.padding, name=f"{prefix}conv{number}")(x)
        return norm(name=f"{prefix}norm{number}", activation=nn.relu)(x)

    for step in steps:
        if isinstance(step, Conv):
            x = unit(x, step)
        elif not isinstance(step, Pool):
            x = jnp.concatenate([unit(x, part) for part in step], axis=-1)
        elif step.kind == "max":
            x = max_pool(x, step.size, step.stride, padding=step.padding, ceil_mode=step.ceil_mode)
        else:
            x = average_pool(x, step.size, step.stride, padding=step.padding, count_padding=count_padding)
    return x


def branched(x: jax.Array, branches: Sequence[Steps], **options: Any) -> jax.Array:
    """(N, H, W, C) -> (N, H', W', the branches' C'): branch{b}_conv{n}, branch{b}_norm{n}; for `options` see `sequence`."""
    outputs = [sequence(x, steps, prefix=f"branch{b}_", **options) for b, steps in enumerate(branches, start=1)]
    return jnp.concatenate(outputs, axis=-1)


class Branches(nn.Module):
    """Branches of one input, concatenated."""

    branches: tuple[Steps, ...]
    conv: Callable
    norm: Callable
    count_padding: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', the branches' C')."""
        return branched(x, self.branches, conv=self.conv, norm=self.norm, count_padding=self.count_padding)

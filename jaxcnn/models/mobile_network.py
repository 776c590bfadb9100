"""The network that the mobile families share: what a plan of blocks asks for, in the flavour of a library."""

import abc
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, conv, global_average_pool, linear
from jaxcnn.models.mobile_blocks import (
    Activation,
    Block,
    Flavour,
    Initializer,
    MobileBlock,
    Stages,
    divisible,
    make_blocks,
)
from jaxcnn.models.registry import check_images


class Plan(NamedTuple):
    """A network, before its head of classes."""

    stem: int
    blocks: tuple[Block, ...]
    activation: Activation
    last: int = 0  # features of the last convolution, before the pool; 0: none
    hidden: int = 0  # features of a layer between the pool and the head; 0: none
    hidden_norm: bool = False
    dropout: float = 0.0
    squeeze_activation: Activation | None = None  # None: the block's
    gate: Activation = nn.sigmoid


class MobileNetwork(nn.Module, kw_only=True):
    """Stem, blocks, last convolution, global average pool, hidden layer, head: what of them `plan` asks for.

    The "small" stem, without stride, is for images of about 32×32. `freeze_norm` uses the running statistics in training
    too, and keeps them. `remat` computes each block again in the backward pass, for less memory. Without classes, the
    features are those before the hidden layer.
    """

    flavour: Flavour
    num_classes: int = 1000
    stem: Literal["imagenet", "small"] = "imagenet"
    freeze_norm: bool = False
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @property
    def smallest(self) -> int:
        """Height and width that the network can take."""
        return 1

    @abc.abstractmethod
    def plan(self) -> Plan:
        """The network that these fields make."""

    def preprocess(self, images):
        """Keras has some of it inside the network."""
        return images

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=self.smallest)
        plan, flavour = self.plan(), self.flavour
        convolution = partial(conv, padding=flavour.padding, kernel_init=flavour.kernel_init, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train or self.freeze_norm,
            momentum=flavour.momentum,
            epsilon=flavour.epsilon,
            unbiased=flavour.unbiased,
            dtype=self.dtype,
        )

        x = self.preprocess(images)
        x = convolution(plan.stem, 3, 2 if self.stem == "imagenet" else 1, name="stem_conv")(x)
        x = norm(name="stem_norm", activation=plan.activation)(x)
        self.sow("intermediates", "stem", x)

        make = nn.remat(MobileBlock, static_argnums=(2,)) if self.remat else MobileBlock
        for block, after in zip(plan.blocks, (*plan.blocks[1:], None), strict=True):
            squeeze_activation = plan.squeeze_activation or block.activation
            x = make(block, flavour, squeeze_activation, plan.gate, norm, self.dtype, name=block.name)(x, train)
            if after is None or after.stage != block.stage:
                self.sow("intermediates", f"stage{block.stage}", x)

        if plan.last:
            x = convolution(plan.last, 1, name="last_conv")(x)
            x = norm(name="last_norm", activation=plan.activation)(x)
            self.sow("intermediates", "last", x)
        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        if plan.hidden:
            init = flavour.kernel_init if flavour.conv_hidden else flavour.head_init
            x = fully_connected(x, plan.hidden, init, flavour.conv_hidden, not plan.hidden_norm, name="hidden")
            x = norm(name="hidden_norm", dtype=jnp.float32)(x) if plan.hidden_norm else x
            x = plan.activation(x)
        x = nn.Dropout(plan.dropout)(x, deterministic=not train)
        return fully_connected(x, self.num_classes, flavour.head_init, flavour.conv_head, True, name="head")


def fully_connected(x, features: int, init: Initializer, as_conv: bool, use_bias: bool, name: str):
    """(N, C) -> (N, features) float32; some libraries have it as a 1×1 convolution."""
    if as_conv:
        return conv(features, 1, use_bias=use_bias, kernel_init=init, name=name)(x[:, None, None, :])[:, 0, 0]
    return linear(x.shape[-1], features, kernel_init=init, bias_init=nn.initializers.zeros, name=name)(x)


class Design(NamedTuple):
    """A network by its paper's table, and its factors of width and depth."""

    stages: Stages
    stem: int
    last: int
    activation: Activation
    width: float = 1.0
    depth: Callable[[int], int] = int
    limit: float = 0.9  # of rounding widths down
    hidden: int = 0
    hidden_norm: bool = False
    squeeze_activation: Activation | None = None
    gate: Activation = nn.sigmoid

    def plan(self, dropout: float, drop_rate: float, drop_steps: int | None = None) -> Plan:
        """Adds what is dropped in training: features before the head, and branches (see make_blocks)."""
        blocks = make_blocks(
            self.stages,
            self.stem,
            self.activation,
            width=lambda channels: divisible(channels * self.width, limit=self.limit),
            depth=self.depth,
            drop_rate=drop_rate,
            drop_steps=drop_steps,
        )
        return Plan(
            self.stem,
            blocks,
            self.activation,
            self.last,
            self.hidden,
            self.hidden_norm,
            dropout,
            self.squeeze_activation,
            self.gate,
        )


class TimmNetwork(MobileNetwork, kw_only=True):
    """Any of timm's; it drops nothing by default."""

    design: Design
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0

    def plan(self) -> Plan:
        """The network that these fields make."""
        return self.design.plan(self.drop_rate, self.drop_path_rate)

"""What all networks have in common: their arguments, the layers of a library's flavour, and the head."""

import abc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import BatchNorm, conv, global_average_pool, he_normal, linear
from jaxcnn.layers.conv import Padding
from jaxcnn.models.registry import check_images, name_of
from jaxcnn.settings import Share

Initializer = jax.nn.initializers.Initializer


class Flavour(NamedTuple):
    """How a library builds its networks, where papers leave it open; by default as torchvision does its ResNets."""

    kernel_init: Initializer = he_normal("fan_out")
    grouped_init: Initializer | None = None
    """of depthwise and grouped convolutions, and of both of NASNet's separable ones, if it is another"""
    head_init: Initializer | None = None
    """of linear layers; None: uniform within ±1/sqrt(inputs), as PyTorch's nn.Linear"""
    head_bias_init: Initializer | None = None
    """of their biases; None: the same"""
    epsilon: float = 1e-5
    momentum: float = 0.1
    """weight of the new batch in the running statistics: PyTorch's convention; 1 - Keras's"""
    unbiased: bool = True
    """the running variance is n / (n - 1) times the batch's"""
    norm_scale: bool = True
    padding: Padding | None = None
    """None: the same number of pixels on each side, which keeps the size; "SAME": TensorFlow's"""
    conv_bias: bool = False
    """convolutions have biases, whatever follows"""

    def conv(self, dtype: jax.typing.DTypeLike) -> Callable[..., nn.Conv]:
        """jaxcnn.layers.conv with this initializer, padding and bias."""
        return partial(conv, padding=self.padding, use_bias=self.conv_bias, kernel_init=self.kernel_init, dtype=dtype)

    def norm(self, use_running_average: bool, dtype: jax.typing.DTypeLike) -> Callable[..., BatchNorm]:
        """jaxcnn.layers.BatchNorm with this epsilon, momentum and variance."""
        return partial(
            BatchNorm,
            use_running_average=use_running_average,
            momentum=self.momentum,
            epsilon=self.epsilon,
            unbiased=self.unbiased,
            use_scale=self.norm_scale,
            dtype=dtype,
        )

    def linear(self, inputs: int, features: int, name: str, dtype: jax.typing.DTypeLike = jnp.float32) -> nn.Dense:
        """(N, inputs) -> (N, features) in `dtype`, with these initializers."""
        return linear(inputs, features, kernel_init=self.head_init, bias_init=self.head_bias_init, dtype=dtype, name=name)


ZEROS, GLOROT = nn.initializers.zeros, nn.initializers.glorot_uniform()
FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within ±1/sqrt(fan in)

TORCHVISION = Flavour()
PYTORCH = Flavour(kernel_init=FAN_IN_UNIFORM)  # as its layers start unless told otherwise
KERAS = Flavour(GLOROT, head_init=GLOROT, head_bias_init=ZEROS, epsilon=1e-3, momentum=0.01, unbiased=False)


class Network(nn.Module):
    """A backbone and a head: images (N, H, W, C) float -> logits (N, num_classes) float32.

    Attributes:
      num_classes: how many logits; 0: the features that the head would see instead, (N, F) float32.
      drop_rate: dropout's, before the head unless the network's docstring names another place.
      drop_path_rate: stochastic depth's in the last block; it grows linearly over the blocks (Huang et al.,
        arXiv:1603.09382, equation 4; here by image).
      freeze_norm: batch norm uses its running statistics in training too, and keeps them.
      remat: a block's activations are computed again in the backward pass, and only what goes from block to block is
        stored: less memory, more time.
      dtype: what to compute in; parameters, statistics and logits are float32.

    A family defines `backbone`, and `classify` where its head is not pooling, dropout and a linear layer. It names in
    `without` the arguments that have no effect on it; create_model refuses them.
    """

    flavour: Flavour = TORCHVISION
    num_classes: int = 1000
    drop_rate: Share = 0.0
    drop_path_rate: Share = 0.0
    freeze_norm: bool = False
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    without: ClassVar[frozenset[str]] = frozenset()
    head_dropout: ClassVar[bool] = True  # False: drop_rate applies to dropout elsewhere

    @property
    def smallest(self) -> int:
        """The least height and width of images."""
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=self.smallest)
        return self.classify(self.backbone(images, train=train), train=train)

    @abc.abstractmethod
    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', F): the maps that the head sees. It sows each stage's map."""

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H', W', F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        return self.logits(global_average_pool(x), train=train)

    def logits(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Pooled features (N, F) float32 -> (N, num_classes) float32, or the same if num_classes is 0."""
        if self.num_classes == 0:
            return x
        if self.head_dropout:
            x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return self.flavour.linear(x.shape[-1], self.num_classes, name="head")(x)

    def layers(self, train: bool) -> tuple[Callable[..., nn.Conv], Callable[..., nn.Module]]:
        """The convolution and the norm that all blocks have."""
        return self.flavour.conv(self.dtype), self.flavour.norm(not train or self.freeze_norm, self.dtype)

    def drop_path_rates(self, blocks: int, train: bool) -> Iterator[float]:
        """Stochastic depth's rate of each block, in order: 0 in the first, drop_path_rate in the last; 0 in evaluation."""
        return (self.drop_path_rate * index / max(blocks - 1, 1) if train else 0.0 for index in range(blocks))

    def run(self, block: nn.Module, *inputs: jax.Array) -> jax.Array:
        """block(*inputs), recomputed in the backward pass where `remat` asks for it."""
        return nn.remat(_run)(block, *inputs) if self.remat else block(*inputs)


def _run(block: nn.Module, *inputs: jax.Array) -> jax.Array:
    return block(*inputs)


class Striding(NamedTuple):
    """How a block strides, and dilates where a stride before it, or its own, was left out."""

    stride: int
    first_dilation: int = 1
    """of the convolution that has the stride, or would have had it"""
    dilation: int = 1
    """of those after it"""


def stridings(model: nn.Module, strides: Sequence[int], output_stride: int) -> list[Striding]:
    """The first steps of stages with these strides, in a network with a stride of at most `output_stride`.

    A stride that would exceed it is left out, and what follows is dilated by it instead, so that each kernel sees what it
    saw before. Chen, Papandreou, Schroff, Adam: Rethinking Atrous Convolution for Semantic Image Segmentation. 2017,
    arXiv:1706.05587, section 3.1.

    Raises:
      UserError: the stride is smaller anyway, although not the default, 32, was asked for.
    """
    result, reached, dilation = [], 1, 1
    for stride in strides:
        kept = stride if reached * stride <= output_stride else 1
        reached, before, dilation = reached * kept, dilation, dilation * stride // kept
        result.append(Striding(kept, before, dilation))
    if dilation == 1 and output_stride < 32:
        raise UserError(f"{name_of(model)}: output_stride={output_stride} has no effect: its stride is {reached}")
    return result

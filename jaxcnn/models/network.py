"""The base class of all networks, and the conventions of the libraries that networks follow.

A new family subclasses `Network`, defines `backbone`, and declares its variants (jaxcnn/models/registry.py):

    class Plain(Network, kw_only=True):
        widths: tuple[int, ...]  # channels of each stage

        without = frozenset({"drop_path_rate", "remat"})  # arguments that would have no effect

        def backbone(self, images, *, train):
            conv, norm = self.layers(train)
            x = images
            for stage, width in enumerate(self.widths, start=1):
                x = conv(width, 3, 2, name=f"stage{stage}_conv")(x)
                x = norm(name=f"stage{stage}_norm", activation=nn.relu)(x)
                self.sow("intermediates", f"stage{stage}", x)
            return x
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.errors import UserError
from jaxcnn.layers import BatchNorm, conv, global_average_pool, he_normal, linear
from jaxcnn.layers.conv import Padding
from jaxcnn.models.registry import check_images, name_of
from jaxcnn.settings import Share

Initializer = jax.nn.initializers.Initializer


class Flavor(NamedTuple):
    """A library's conventions where papers leave a choice: initializers, norms, padding, biases.

    The defaults are those of torchvision's ResNets.
    """

    kernel_init: Initializer = he_normal("fan_out")
    grouped_init: Initializer | None = None
    """for depthwise and grouped convolutions (in NASNet: both of a separable one); None: kernel_init"""
    head_init: Initializer | None = None
    """for kernels of linear layers; None: uniform within ±1/sqrt(inputs), as in PyTorch's nn.Linear"""
    head_bias_init: Initializer | None = None
    """for biases of linear layers; None: uniform within ±1/sqrt(inputs)"""
    epsilon: float = 1e-5
    momentum: float = 0.1
    """weight of the new batch in the running statistics: PyTorch's convention, which is 1 - momentum in Keras's"""
    unbiased: bool = True
    """running variances are averages of the unbiased batch variance: n / (n - 1) times the biased one"""
    norm_scale: bool = True
    """batch norm has a scale (gamma)"""
    padding: Padding | None = None
    """None: half the kernel size on each side, as in PyTorch; "SAME": TensorFlow's"""
    conv_bias: bool = False
    """all convolutions have biases, also those before a norm"""

    def conv(self, dtype: jax.typing.DTypeLike) -> Callable[..., nn.Conv]:
        """Returns jaxcnn.layers.conv with this initializer, padding and bias bound."""
        return partial(conv, padding=self.padding, use_bias=self.conv_bias, kernel_init=self.kernel_init, dtype=dtype)

    def norm(self, use_running_average: bool, dtype: jax.typing.DTypeLike) -> Callable[..., BatchNorm]:
        """Returns jaxcnn.layers.BatchNorm with this epsilon, momentum and kind of variance bound."""
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
        """Returns a linear layer (N, inputs) -> (N, features) in `dtype` with these initializers."""
        return linear(inputs, features, kernel_init=self.head_init, bias_init=self.head_bias_init, dtype=dtype, name=name)


ZEROS, GLOROT = nn.initializers.zeros, nn.initializers.glorot_uniform()
FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # within ±1/sqrt(fan in)

TORCHVISION = Flavor()
PYTORCH = Flavor(kernel_init=FAN_IN_UNIFORM)  # the defaults of its layers
KERAS = Flavor(GLOROT, head_init=GLOROT, head_bias_init=ZEROS, epsilon=1e-3, momentum=0.01, unbiased=False)


class Network(nn.Module):
    """A backbone and a head: images (N, H, W, C) float -> logits (N, num_classes) float32.

    Attributes:
      flavor: the library's conventions that the layers follow.
      num_classes: number of logits; with 0 the network returns the input of its head, (N, F) float32.
      drop_rate: dropout rate; dropout is applied before the head unless the network's docstring names another place.
      drop_path_rate: rate of stochastic depth in the last block. The rate grows linearly with depth (Huang et al.,
        arXiv:1603.09382, equation 4) and is applied per image.
      freeze_norm: batch norm uses its running statistics in training too and does not update them.
      remat: stores only the inputs of blocks for the backward pass and recomputes their activations, which needs less
        memory and more time.
      dtype: compute type; parameters, running statistics and logits are float32.

    A subclass defines `backbone`, and `classify` if its head is not global average pooling, dropout and a linear layer.
    It names in `without` the arguments that have no effect on it. `create_model` refuses them.
    """

    flavor: Flavor = TORCHVISION
    num_classes: int = 1000
    drop_rate: Share = 0.0
    drop_path_rate: Share = 0.0
    freeze_norm: bool = False
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    task: ClassVar[Literal["classification", "segmentation"]] = "classification"
    without: ClassVar[frozenset[str]] = frozenset()
    head_dropout: ClassVar[bool] = True  # False: drop_rate applies elsewhere, not before the head

    @property
    def smallest(self) -> int:
        """The minimum height and width of images."""
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Computes logits from images: (N, H, W, C) -> (N, num_classes) float32, or (N, F) if num_classes is 0.

        Raises:
          UserError: the images have another rank or are smaller than `smallest`.
        """
        check_images(self, images, at_least=self.smallest)
        return self.classify(self.backbone(images, train=train), train=train)

    @abc.abstractmethod
    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Computes the input of `classify`: (N, H, W, C) -> (N, H', W', F).

        Sows the output of the stem and of each stage into "intermediates", under the names "stem", "stage1", ….
        """

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies pooling and the head: (N, H', W', F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        return self.logits(global_average_pool(x), train=train)

    def logits(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies dropout and the linear head to features: (N, F) -> (N, num_classes), or unchanged if num_classes is 0."""
        if self.num_classes == 0:
            return x
        if self.head_dropout:
            x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return self.flavor.linear(x.shape[-1], self.num_classes, name="head")(x)

    def layers(self, train: bool) -> tuple[Callable[..., nn.Conv], Callable[..., nn.Module]]:
        """Returns constructors of convolutions and norms.

            conv, norm = self.layers(train)
            x = norm(name="norm1", activation=nn.relu)(conv(64, 3, name="conv1")(x))

        Flavor, dtype and mode (training or evaluation) are bound.
        """
        return self.flavor.conv(self.dtype), self.flavor.norm(not train or self.freeze_norm, self.dtype)

    def drop_path_rates(self, blocks: int, train: bool) -> Iterator[float]:
        """Yields the stochastic depth rate of each block: from 0 to drop_path_rate in training, 0 in evaluation."""
        return (self.drop_path_rate * index / max(blocks - 1, 1) if train else 0.0 for index in range(blocks))

    def run(self, block: nn.Module, *inputs: jax.Array) -> jax.Array:
        """Returns block(*inputs); its activations are recomputed in the backward pass if `remat` is set."""
        return nn.remat(_run)(block, *inputs) if self.remat else block(*inputs)


def _run(block: nn.Module, *inputs: jax.Array) -> jax.Array:
    return block(*inputs)


class Striding(NamedTuple):
    """The stride of a block, and its dilations where `stridings` replaced strides by dilation."""

    stride: int
    first_dilation: int = 1
    """dilation of the convolution that has the stride, or had it before it was replaced"""
    dilation: int = 1
    """dilation of the convolutions after that one"""


def stridings(model: nn.Module, strides: Sequence[int], output_stride: int) -> list[Striding]:
    """Limits the total stride of a network: returns the `Striding` of the first block of each stage with these strides.

    A stride that would exceed `output_stride` in total becomes 1, and the following convolutions are dilated by it instead,
    so that every kernel covers the same pixels as before (atrous convolution). Chen, Papandreou, Schroff, Adam: Rethinking
    Atrous Convolution for Semantic Image Segmentation. 2017, arXiv:1706.05587, section 3.1.

    Raises:
      UserError: `output_stride` is not the default, 32, but the total stride does not exceed it.
    """
    result, total, dilation = [], 1, 1
    for stride in strides:
        applied = stride if total * stride <= output_stride else 1
        total, first_dilation, dilation = total * applied, dilation, dilation * stride // applied
        result.append(Striding(applied, first_dilation, dilation))
    if dilation == 1 and output_stride < 32:
        raise UserError(f"{name_of(model)}: output_stride={output_stride} has no effect: the network's stride is {total}")
    return result

"""NASNet-A.

Zoph, Vasudevan, Shlens, Le: Learning Transferable Architectures for Scalable Image Recognition. CVPR 2018,
arXiv:1707.07012; figures 2 and 4. Without its auxiliary head and its scheduled drop path. Keras's is TensorFlow's release,
with zeros where pooling pads; timm's pads with nothing there. nasnet_cifar is 6 @ 768, figure 2's left; its first cell
projects its second input like all others.
Initialised as the library does: Keras by He et al. (1×1) and Glorot (separable), timm with PyTorch's own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import BatchNorm, average_pool, conv, global_average_pool, linear, max_pool
from jaxcnn.models.registry import check_images, variant

Previous = Literal["as it is", "projected", "reduced"]


class SeparableTwice(nn.Module):
    """ReLU, separable convolution and norm, twice; the first may stride."""

    filters: int
    size: int
    stride: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        for n, stride in enumerate((self.stride, 1), start=1):
            x, channels = nn.relu(x), x.shape[-1]
            x = self.conv(channels, self.size, stride, padding="SAME", groups=channels, name=f"sepconv{n}_depthwise")(x)
            x = self.norm(name=f"norm{n}")(self.conv(self.filters, 1, name=f"sepconv{n}_pointwise")(x))
        return x


class Cell(nn.Module):
    """Figure 4: five sums of two, of the last cell's output and of the one's before it; concatenated."""

    filters: int
    reduces: bool
    previous: Previous  # what brings that to this cell's size and width
    zero_pad: bool
    conv: Callable
    conv1x1: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x, before):
        """(N, H, W, C), (N, H or 2H, W or 2W, D) -> (N, H, W, 6·filters), or (N, H/2, W/2, 4·filters) if it reduces."""
        h = self.norm(name="norm")(self.conv1x1(self.filters, 1, name="conv")(nn.relu(x)))
        p = self._adjusted(before)

        def sep(y, size, name, stride=2 if self.reduces else 1):
            return SeparableTwice(self.filters, size, stride, self.conv, self.norm, name=name)(y)

        average = partial(average_pool, size=3, stride=1, padding="SAME")
        if not self.reduces:
            sums: tuple = (
                p,
                sep(h, 5, "block1_left") + sep(p, 3, "block1_right"),
                sep(p, 5, "block2_left") + sep(p, 3, "block2_right"),
                average(h) + p,
                average(p) * 2,
                sep(h, 3, "block5_left") + h,
            )
        else:
            padded = _padded(h)
            greatest = max_pool(padded, 3, 2) if self.zero_pad else max_pool(h, 3, 2, padding="SAME")
            first = sep(h, 5, "block1_left") + sep(p, 7, "block1_right")
            second = greatest + sep(p, 7, "block2_right")
            sums = (
                second,
                average_pool(padded, 3, 2) + sep(p, 5, "block3_right"),
                second + average(first),
                sep(first, 3, "block5_left", stride=1) + greatest,
            )
        return jnp.concatenate(sums, axis=-1)

    def _adjusted(self, p):
        if self.previous == "as it is":
            return p
        p = nn.relu(p)
        if self.previous == "projected":
            return self.norm(name="previous_norm")(self.conv1x1(self.filters, 1, name="previous_conv")(p))
        shifted = jnp.pad(p, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        halves = [
            self.conv1x1(self.filters // 2, 1, name=f"reduced_conv{n}")(y[:, ::2, ::2])
            for n, y in enumerate((p, shifted), start=1)
        ]
        return self.norm(name="reduced_norm")(jnp.concatenate(halves, axis=-1))


def _padded(x: jax.Array) -> jax.Array:
    """Zeros around, as many as TensorFlow's "SAME" takes for windows of 3×3 with stride 2."""
    return jnp.pad(x, ((0, 0), *jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME"), (0, 0)))


class NASNet(nn.Module):
    """Stem, three stages of normal cells with reduction cells between, global average pool, dropout, linear head.

    `drop_rate` is the dropout's, 0.5 in the paper. `freeze_norm` uses the running statistics in training too. With `remat`,
    cells are computed again in the backward pass instead of kept: less memory, more time.
    """

    flavour: Literal["keras", "timm"]
    depth: int  # normal cells a stage, the paper's N
    features: int  # of the last cell's output
    stem_filters: int
    stem_cells: bool  # two reduction cells after a strided convolution: ImageNet's
    skip_reduction: bool  # after a reduction, the second input stays what it was; else it is the reduction's first
    num_classes: int = 1000
    drop_rate: float = 0.0
    freeze_norm: bool = False
    remat: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C) -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=32 if self.stem_cells else 4)
        keras = self.flavour == "keras"
        norm = partial(BatchNorm, use_running_average=not train or self.freeze_norm, epsilon=1e-3, dtype=self.dtype)
        if keras:
            norm = partial(norm, momentum=0.0003, unbiased=False)
        pytorch = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        convolution = partial(conv, kernel_init=nn.initializers.glorot_uniform() if keras else pytorch, dtype=self.dtype)
        conv1x1 = partial(conv, kernel_init=nn.initializers.he_normal() if keras else pytorch, dtype=self.dtype)
        layers: dict[str, Any] = {"conv": convolution, "conv1x1": conv1x1, "norm": norm, "zero_pad": keras}
        cell = nn.remat(Cell) if self.remat else Cell
        normal, reduction = (partial(cell, reduces=reduces, **layers) for reduces in (False, True))
        filters = self.features // 24

        stride, padding = (2, 0) if self.stem_cells else (1, 1)
        x = before = norm(name="stem_norm")(conv1x1(self.stem_filters, 3, stride, padding=padding, name="stem_conv")(images))
        previous: Previous = "projected"
        if self.stem_cells:
            x = reduction(filters=filters // 4, previous="as it is", name="stem_cell1")(x, x)
            x, before = reduction(filters=filters // 2, previous="reduced", name="stem_cell2")(x, before), x
            previous = "reduced"
        self.sow("intermediates", "stem", x)
        for stage in (1, 2, 3):
            if stage > 1:
                filters *= 2
                number, after = (stage - 1) * self.depth, before if self.skip_reduction else x
                x = reduction(filters=filters, previous="projected", name=f"reduction{number}")(x, before)
                before, previous = after, "reduced"
            for index in range(self.depth):
                number = (stage - 1) * self.depth + index + (stage > 1)  # Keras's numbers, which leave one out
                x, before = normal(filters=filters, previous=previous, name=f"cell{number}")(x, before), x
                previous = "projected"
            self.sow("intermediates", f"stage{stage}", x)

        x = global_average_pool(nn.relu(x))
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        head: dict[str, Any] = (
            {"kernel_init": nn.initializers.glorot_uniform(), "bias_init": nn.initializers.zeros} if keras else {}
        )
        return linear(self.features, self.num_classes, name="head", **head)(x)


MOBILE: dict[str, Any] = {"depth": 4, "features": 1056, "stem_filters": 32, "stem_cells": True, "skip_reduction": False}
LARGE: dict[str, Any] = {"depth": 6, "features": 4032, "stem_filters": 96, "stem_cells": True, "skip_reduction": True}
CIFAR: dict[str, Any] = {"depth": 6, "features": 768, "stem_filters": 96, "stem_cells": False, "skip_reduction": False}
nasnet = partial(variant, paper="arXiv:1707.07012")
nasnet("keras/NASNetMobile", NASNet, flavour="keras", **MOBILE, image_size=224)  # 5.3 M parameters
nasnet("keras/NASNetLarge", NASNet, flavour="keras", **LARGE, image_size=331)  # 88.8 M
nasnet("timm/nasnetalarge", NASNet, flavour="timm", **LARGE, image_size=331)
nasnet("nasnet_cifar", NASNet, flavour="keras", num_classes=10, **CIFAR, image_size=32)  # 3.3 M

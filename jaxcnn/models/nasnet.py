"""NASNet-A.

Zoph, Vasudevan, Shlens, Le: Learning Transferable Architectures for Scalable Image Recognition. CVPR 2018,
arXiv:1707.07012; figures 2 and 4. There is no auxiliary head and no scheduled drop path. Keras's variants follow TensorFlow's
release, whose max pools include zero padding; timm's do not. nasnet_cifar is NASNet-A (6 @ 768), on the left of figure 2. Its
first cell projects the second input like all others.
Initialized as in the library: Keras's by He et al. (1×1) and Glorot (separable), timm's by PyTorch's default.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import average_pool, max_pool
from jaxcnn.models.network import GLOROT, KERAS, PYTORCH, Network
from jaxcnn.models.registry import variant

Previous = Literal["unchanged", "projected", "reduced"]


class SeparableTwice(nn.Module):
    """Twice ReLU, separable convolution and norm. The first convolution has the stride."""

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
    """Figure 4: five sums of two transformed hidden states, from the outputs of the two previous cells; concatenated."""

    filters: int
    reduces: bool
    previous: Previous  # how the output of the cell before the last is matched in size and width
    zero_pad: bool
    conv: Callable
    separable: Callable  # `conv` with the initializer of separable convolutions
    norm: Callable

    @nn.compact
    def __call__(self, x, before):
        """(N, H, W, C), (N, H or 2H, W or 2W, D) -> (N, H, W, 6·filters), or (N, H/2, W/2, 4·filters) if it reduces."""
        h = self.norm(name="norm")(self.conv(self.filters, 1, name="conv")(nn.relu(x)))
        p = self._adjusted(before)

        def sep(y, size, name, stride=2 if self.reduces else 1):
            return SeparableTwice(self.filters, size, stride, self.separable, self.norm, name=name)(y)

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
        if self.previous == "unchanged":
            return p
        p = nn.relu(p)
        if self.previous == "projected":
            return self.norm(name="previous_norm")(self.conv(self.filters, 1, name="previous_conv")(p))
        shifted = jnp.pad(p, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        halves = [
            self.conv(self.filters // 2, 1, name=f"reduced_conv{n}")(y[:, ::2, ::2])
            for n, y in enumerate((p, shifted), start=1)
        ]
        return self.norm(name="reduced_norm")(jnp.concatenate(halves, axis=-1))


def _padded(x: jax.Array) -> jax.Array:
    """Adds zeros as TensorFlow's "SAME" does for windows of 3×3 with stride 2."""
    return jnp.pad(x, ((0, 0), *jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME"), (0, 0)))


class NASNet(Network, kw_only=True):
    """Stem, three stages of normal cells with reduction cells between them, global average pool, dropout, linear head."""

    depth: int  # normal cells per stage, N in the paper
    features: int  # channels of the last cell's output
    stem_filters: int
    stem_cells: bool  # ImageNet's stem: a convolution with stride 2 and two reduction cells
    skip_reduction: bool  # the second input of the cell after a reduction is the reduction's second input, else its first
    zero_pad: bool  # max pools include zero padding

    without = frozenset({"drop_path_rate"})

    @property
    def smallest(self) -> int:
        """The minimum height and width of images."""
        return 32 if self.stem_cells else 4

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, features), or (N, H/4, W/4, features) for CIFAR, after a ReLU."""
        conv, norm = self.layers(train)
        separable = partial(conv, kernel_init=self.flavor.grouped_init or self.flavor.kernel_init)
        cell = partial(Cell, zero_pad=self.zero_pad, conv=conv, separable=separable, norm=norm)
        normal, reduction = (partial(cell, reduces=reduces) for reduces in (False, True))
        filters = self.features // 24

        stride, padding = (2, 0) if self.stem_cells else (1, 1)
        x = before = norm(name="stem_norm")(conv(self.stem_filters, 3, stride, padding=padding, name="stem_conv")(images))
        previous: Previous = "projected"
        if self.stem_cells:
            x = self.run(reduction(filters=filters // 4, previous="unchanged", name="stem_cell1"), x, x)
            x, before = self.run(reduction(filters=filters // 2, previous="reduced", name="stem_cell2"), x, before), x
            previous = "reduced"
        self.sow("intermediates", "stem", x)
        for stage in (1, 2, 3):
            if stage > 1:
                filters *= 2
                number, after = (stage - 1) * self.depth, before if self.skip_reduction else x
                x = self.run(reduction(filters=filters, previous="projected", name=f"reduction{number}"), x, before)
                before, previous = after, "reduced"
            for index in range(self.depth):
                number = (stage - 1) * self.depth + index + (stage > 1)  # Keras's numbers, which skip one per reduction
                x, before = self.run(normal(filters=filters, previous=previous, name=f"cell{number}"), x, before), x
                previous = "projected"
            self.sow("intermediates", f"stage{stage}", x)
        return nn.relu(x)


TIMM = PYTORCH._replace(epsilon=1e-3)
TENSORFLOW = KERAS._replace(kernel_init=nn.initializers.he_normal(), grouped_init=GLOROT, momentum=0.0003)
nasnet = partial(variant, module=NASNet, flavor=TENSORFLOW, zero_pad=True, skip_reduction=False, paper="arXiv:1707.07012")
nasnet("keras/NASNetMobile", depth=4, features=1056, stem_filters=32, stem_cells=True, image_size=224)  # 5.3 M parameters
large = partial(nasnet, depth=6, features=4032, stem_filters=96, stem_cells=True, skip_reduction=True, image_size=331)
large("keras/NASNetLarge")  # 88.8 M
large("timm/nasnetalarge", flavor=TIMM, zero_pad=False)
nasnet("nasnet_cifar", depth=6, features=768, stem_filters=96, stem_cells=False, num_classes=10, image_size=32)  # 3.3 M

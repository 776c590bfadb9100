"""The network of all mobile families, built from a `Design` in the flavor of a library."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import global_average_pool, he_normal
from jaxcnn.models import network
from jaxcnn.models.mobile_blocks import Design, MobileBlock
from jaxcnn.models.network import ZEROS, Network, stridings

HEAD_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # within ±1/sqrt(classes), for EfficientNet
TORCHVISION = network.TORCHVISION._replace(head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)
TORCHVISION_TF = TORCHVISION._replace(epsilon=1e-3, momentum=0.01)  # for networks that were converted from TensorFlow
KERAS = network.KERAS._replace(padding="SAME")
TIMM = TORCHVISION._replace(grouped_init=he_normal("fan_in"), head_init=HEAD_UNIFORM)
TIMM_TF = TIMM._replace(epsilon=1e-3, padding="SAME")


class MobileNetwork(Network, kw_only=True):
    """Stem, blocks, 1×1 convolution, global average pool, hidden layer and head. `design` describes them; some are optional.

    The "small" stem has stride 1, for images of about 32×32. `output_stride` limits the stride of the network: the last blocks
    are dilated instead. As in timm, this affects the blocks after the one whose stride is replaced; in MobileNet V3, as in
    torchvision, that one too. With num_classes=0, the network returns the input of the hidden layer. If there is a hidden
    layer, the last convolution is the map of another stage, as in torchvision and timm.
    """

    design: Design
    stem: Literal["imagenet", "small"] = "imagenet"
    output_stride: Literal[8, 16, 32] = 32

    def plan(self) -> Design:
        """Returns the design after the other fields, such as a width multiplier, are applied."""
        return self.design

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        design = self.plan()
        conv, norm = self.layers(train)
        stride = 2 if self.stem == "imagenet" else 1
        x = conv(design.stem, 3, stride, name="stem_conv")(images)
        x = norm(name="stem_norm", activation=design.activation)(x)
        self.sow("intermediates", "stem", x)

        blocks = design.blocks
        block_stridings = stridings(self, (stride, *(block.row.stride for block in blocks)), self.output_stride)[1:]
        for index, (block, striding) in enumerate(zip(blocks, block_stridings, strict=True)):
            x = self.run(
                MobileBlock(
                    block,
                    design,
                    stride=striding.stride,
                    dilation=striding.dilation if design.dilate_strided else striding.first_dilation,
                    drop_rate=self.drop_path_rate * index / (design.drop_steps or len(blocks)) if train else 0.0,
                    flavor=self.flavor,
                    norm=norm,
                    name=block.name,
                ),
                x,
            )
            if block is blocks[-1] or block.stage != blocks[index + 1].stage:
                self.sow("intermediates", f"stage{block.stage}", x)

        if design.last:
            x = conv(design.last, 1, name="last_conv")(x)
            x = norm(name="last_norm", activation=design.activation)(x)
            self.sow("intermediates", f"stage{blocks[-1].stage + 1}" if design.hidden else "last", x)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H', W', F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        x = global_average_pool(x)
        if self.num_classes == 0:
            return x
        design = self.plan()
        _, norm = self.layers(train)
        if design.hidden:
            x = self.linear(x, design.hidden, design.conv_hidden, not design.hidden_norm, name="hidden")
            x = norm(name="hidden_norm", dtype=jnp.float32)(x) if design.hidden_norm else x
            x = design.activation(x)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return self.linear(x, self.num_classes, design.conv_head, True, name="head")

    def linear(self, x: jax.Array, features: int, as_conv: bool, use_bias: bool, name: str) -> jax.Array:
        """Applies a linear layer, stored as a 1×1 convolution if `as_conv`: (N, C) -> (N, features) float32."""
        if as_conv:
            return self.flavor.conv(jnp.float32)(features, 1, use_bias=use_bias, name=name)(x[:, None, None, :])[:, 0, 0]
        return self.flavor.linear(x.shape[-1], features, name)(x)


class WithoutShortcuts(MobileNetwork, kw_only=True):
    """A MobileNetwork whose blocks have no shortcuts, so that there is no stochastic depth."""

    without = frozenset({"drop_path_rate"})

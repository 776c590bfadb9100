"""RepVGG.

Ding, Zhang, Ma, Han, Ding, Sun: RepVGG: Making VGG-style ConvNets Great Again. CVPR 2021, arXiv:2101.03697; figure 4 and
tables 2 and 3. In training, a block is the sum of a 3×3 convolution, a 1×1 convolution and the identity, each with a batch
norm. In evaluation that sum is linear and equals one 3×3 convolution, which `deployed` computes. Initialized as in timm.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import he_normal, relu
from jaxcnn.models.network import TORCHVISION, ZEROS, Flavor, Network
from jaxcnn.models.registry import variant

# Grouped kernels use the fan out within a group, which equals the fan in because grouped convolutions preserve the width.
TIMM = TORCHVISION._replace(grouped_init=he_normal("fan_in"), head_init=nn.initializers.normal(0.01), head_bias_init=ZEROS)


def small_scale(key, shape, dtype=jnp.float32, out_sharding=None):
    """Initializes the scale of a norm: normal with mean 0.1 and σ = 0.1."""
    return 0.1 + 0.1 * jax.random.normal(key, shape, dtype)


class Block(nn.Module):
    """The ReLU of the sum of the branches."""

    filters: int
    stride: int
    deploy: bool
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H/stride, W/stride, filters)."""
        return branches(x, self.filters, self.stride, self.deploy, self.conv, self.norm)


def branches(x, filters, stride, deploy, conv, norm, prefix=""):
    """Applies a block: (N, H, W, C) -> (N, H/stride, W/stride, filters). Its layers belong to the calling module."""
    if deploy:
        return nn.relu(conv(filters, 3, stride, use_bias=True, name=f"{prefix}conv")(x))
    y = norm(name=f"{prefix}norm")(conv(filters, 3, stride, name=f"{prefix}conv")(x))
    y = y + norm(name=f"{prefix}norm1x1")(conv(filters, 1, stride, name=f"{prefix}conv1x1")(x))
    if stride == 1 and x.shape[-1] == filters:
        y = y + norm(name=f"{prefix}norm_identity")(x)
    return relu(y)


class RepVGG(Network, kw_only=True):
    """Stem of one block, four stages of blocks with a stride of 2 each, global average pool, linear head.

    With `deploy`, each block is a single convolution, whose weights come from `deployed`.
    """

    flavor: Flavor = TIMM
    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...]  # channels of the stem and of each stage
    groups: int  # groups of the convolutions in every second block of a stage
    deploy: bool = False

    without = frozenset({"drop_path_rate"})

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        conv, norm = self.layers(train)
        grouped = partial(conv, groups=self.groups, kernel_init=self.flavor.grouped_init)
        norm = partial(norm, scale_init=small_scale, bias_init=nn.initializers.normal(0.1))
        x = branches(images, self.widths[0], 2, self.deploy, conv, norm, prefix="stem_")
        self.sow("intermediates", "stem", x)

        for stage, (depth, filters) in enumerate(zip(self.depths, self.widths[1:], strict=True), start=1):
            for index in range(1, depth + 1):
                stride, block_conv = 2 if index == 1 else 1, grouped if index % 2 == 0 else conv
                x = self.run(Block(filters, stride, self.deploy, block_conv, norm, name=f"stage{stage}_block{index}"), x)
            self.sow("intermediates", f"stage{stage}", x)
        return x


def deployed(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a trained network's variables to those of create_model(name, deploy=True) (section 3.3 of the paper).

        logits = create_model("timm/repvgg_a0", deploy=True).apply(deployed(variables), images, train=False)

    The logits equal those of the trained network in evaluation mode, up to rounding.
    """
    params, stats = variables["params"], variables["batch_stats"]
    result: dict[str, Any] = {}
    for layer, tree in params.items():
        if layer.startswith("stage"):
            result[layer] = {"conv": _fused(tree, stats[layer], "")}
    result["stem_conv"] = _fused(params, stats, "stem_")
    if "head" in params:
        result["head"] = params["head"]
    return {"params": result}


def _fused(params: Mapping[str, Any], stats: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Returns the kernel (3, 3, C / groups, C') and bias (C',) that equal the branches of a block."""
    kernel = np.asarray(params[f"{prefix}conv"]["kernel"], np.float64)
    inputs, outputs = kernel.shape[2:]
    pointwise = np.zeros(kernel.shape)
    pointwise[1, 1] = params[f"{prefix}conv1x1"]["kernel"][0, 0]
    identity = np.zeros(kernel.shape)
    identity[1, 1, np.arange(outputs) % inputs, np.arange(outputs)] = 1  # of the same index in their group
    total, bias = np.zeros(kernel.shape), np.zeros(outputs)
    for name, branch in (("norm", kernel), ("norm1x1", pointwise), ("norm_identity", identity)):
        if norm := params.get(prefix + name):
            running = stats[prefix + name]
            factor = np.asarray(norm["scale"], np.float64) / np.sqrt(np.asarray(running["var"], np.float64) + TIMM.epsilon)
            total += branch * factor
            bias += np.asarray(norm["bias"], np.float64) - np.asarray(running["mean"], np.float64) * factor
    return {"kernel": total.astype(np.float32), "bias": bias.astype(np.float32)}


repvgg = partial(variant, module=RepVGG, groups=1, image_size=224, paper="arXiv:2101.03697")
repvgg_a, repvgg_b = partial(repvgg, depths=(2, 4, 14, 1)), partial(repvgg, depths=(4, 6, 16, 1))
repvgg_a("timm/repvgg_a0", widths=(48, 48, 96, 192, 1280))  # 9.1 M parameters, 8.3 M deployed
repvgg_a("timm/repvgg_a1", widths=(64, 64, 128, 256, 1280))  # 14.1 M, 12.8 M
repvgg_a("timm/repvgg_a2", widths=(64, 96, 192, 384, 1408))  # 28.2 M, 25.5 M
repvgg_b("timm/repvgg_b0", widths=(64, 64, 128, 256, 1280))  # 15.8 M, 14.3 M
repvgg_b("timm/repvgg_b1", widths=(64, 128, 256, 512, 2048))  # 57.4 M, 51.8 M
repvgg_b("timm/repvgg_b1g4", widths=(64, 128, 256, 512, 2048), groups=4)  # 40.0 M, 36.1 M
repvgg_b("timm/repvgg_b2", widths=(64, 160, 320, 640, 2560))  # 89.0 M, 80.3 M
repvgg_b("timm/repvgg_b2g4", widths=(64, 160, 320, 640, 2560), groups=4)  # 61.8 M, 55.8 M
repvgg_b("timm/repvgg_b3", widths=(64, 192, 384, 768, 2560))  # 123.1 M, 111.0 M
repvgg_b("timm/repvgg_b3g4", widths=(64, 192, 384, 768, 2560), groups=4)  # 83.8 M, 75.6 M

"""Network in Network.

Lin, Chen, Yan: Network In Network. ICLR 2014, arXiv:1312.4400; figure 2, and the filters of the authors' published
network for CIFAR-10. Each of three stages has a convolution and two 1×1 convolutions; max pooling and dropout follow the first
two stages. The last convolution has one map per class, whose mean over positions is the logit. A ReLU follows every
convolution, including the last (equation 2). Initialized by He et al. (fan in); the paper only states that weights were
initialized manually.
"""

import flax.linen as nn
import jax

from jaxcnn.layers import ConvSpec, global_average_pool, he_normal, max_pool
from jaxcnn.models.network import Flavor, Network
from jaxcnn.models.registry import variant
from jaxcnn.models.squeezenet import mean_of_maps
from jaxcnn.settings import Share

HE = Flavor(he_normal("fan_in"), conv_bias=True)


class NetworkInNetwork(Network, kw_only=True):
    """Three stages of convolutions, global average pool. Dropout follows each of the first two stages."""

    stages: tuple[tuple[ConvSpec, ...], ...]
    num_classes: int = 10
    drop_rate: Share = 0.5

    without = frozenset({"drop_path_rate", "freeze_norm", "remat"})
    smallest = 4

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/4, W/4, 192)."""
        return self.convolved(nn.Dropout(self.drop_rate, deterministic=not train), images)

    def convolved(self, dropout: nn.Dropout, x: jax.Array) -> jax.Array:
        """Applies the stages: (N, H, W, C) -> (N, H/4, W/4, 192)."""
        for stage, specs in enumerate(self.stages, start=1):
            for index, (features, size, stride, padding) in enumerate(specs, start=1):
                name = "stem_conv" if stage == index == 1 else f"stage{stage}_conv{index}"
                layer = self.flavor.conv(self.dtype)(features, size, stride, padding=padding, name=name)
                x = nn.relu(layer(x))
            self.sow("intermediates", f"stage{stage}", x)
            x = dropout(self.pooled(x)) if stage < len(self.stages) else x
        return x

    def pooled(self, x: jax.Array) -> jax.Array:
        """Pools between stages, with ceil mode as in cuda-convnet: (N, H, W, C) -> (N, ⌈H/2⌉, ⌈W/2⌉, C)."""
        return max_pool(x, 3, 2, ceil_mode=True)

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H/4, W/4, 192) -> (N, num_classes) float32, or (N, 192) if num_classes is 0."""
        return mean_of_maps(self, x) if self.num_classes else global_average_pool(x)


STAGES = (
    (ConvSpec(192, 5), ConvSpec(160), ConvSpec(96)),
    (ConvSpec(192, 5), ConvSpec(192), ConvSpec(192)),
    (ConvSpec(192, 3), ConvSpec(192)),
)
# 0.97 M parameters
variant("nin", NetworkInNetwork, flavor=HE, stages=STAGES, image_size=32, paper="arXiv:1312.4400")

"""The network of airbench94, which reaches an accuracy of 94 % on CIFAR-10 in seconds.

Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024, arXiv:2404.00498; section 3.
github.com/KellerJordan/airbench, airbench94_muon.py.

The kernel of the first layer is not trained. `whiten` computes it from training images (model.whiten), and its gradient is
stopped. With weight decay, "stem_conv/kernel" must be frozen too. The bias of that layer is trained.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import convolve, global_max_pool, max_pool, uniform
from jaxcnn.models.network import FAN_IN_UNIFORM, Flavor, Network
from jaxcnn.models.registry import variant


def dirac(key, shape, dtype=jnp.float32, out_sharding=None):
    """Initializes the first C filters to copy the C inputs, and the others as PyTorch does."""
    kernel = FAN_IN_UNIFORM(key, shape, dtype)
    size, _, inputs, outputs = shape
    copies = min(inputs, outputs)
    identity = np.zeros((size, size, inputs, copies), np.float32)
    identity[size // 2, size // 2, np.arange(copies), np.arange(copies)] = 1
    return kernel.at[..., :copies].set(jnp.asarray(identity, dtype))


def unit_deviation(key, shape, dtype=jnp.float32, out_sharding=None):
    """Initializes a kernel as PyTorch does, divided by its sample standard deviation (torch.std)."""
    kernel = FAN_IN_UNIFORM(key, shape, dtype)
    return kernel / kernel.std(ddof=1)


class Whitening(nn.Module):
    """A 2×2 convolution without padding. The gradient of its kernel is stopped."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H - 1, W - 1, 8·C)."""
        channels = x.shape[-1]
        patch = 4 * channels
        kernel = self.param("kernel", FAN_IN_UNIFORM, (2, 2, channels, 2 * patch), jnp.float32)
        bias = self.param("bias", uniform(patch**-0.5), (2 * patch,), jnp.float32)
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        y = convolve(x.astype(self.dtype), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


def whiten(images: jax.Array, size: tuple[int, int] = (2, 2), epsilon: float = 5e-4) -> jax.Array:
    """Computes the kernel (h, w, C, 2·h·w·C) of the first layer from normalized images (N, H, W, C); h, w = `size`.

    The filters are the eigenvectors of the covariance of all h×w patches, in descending order of eigenvalues, each divided by
    sqrt(eigenvalue + epsilon), followed by their negatives.
    """
    (h, w), channels = size, images.shape[3]
    rows, columns = images.shape[1] - h + 1, images.shape[2] - w + 1
    shifted = [images[:, y : y + rows, x : x + columns] for y in range(h) for x in range(w)]
    patches = jnp.concatenate(shifted, axis=3).reshape(-1, h * w * channels)
    covariance = jnp.matmul(patches.T, patches, precision="highest") / patches.shape[0]  # not centered, as in the original
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    filters = (vectors / jnp.sqrt(eigenvalues + epsilon)[None])[:, ::-1]
    return jnp.concatenate([filters, -filters], axis=1).reshape(h, w, channels, -1)


AIRBENCH = Flavor(dirac, epsilon=1e-12, momentum=0.4, norm_scale=False)


class Airbench(Network, kw_only=True):
    """Whitening, three groups of [convolution, 2×2 max pool, norm, GELU, convolution, norm, GELU], global max pool, head.

    The linear head has no bias; its logits are divided by the number of features.
    """

    flavor: Flavor = AIRBENCH
    widths: tuple[int, ...]  # channels of each group
    num_classes: int = 10

    without = frozenset({"drop_path_rate", "remat"})

    @property
    def smallest(self) -> int:
        """The minimum height and width of images, of which the pools leave one pixel."""
        return 1 + 2 ** len(self.widths)

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H', W', F): H - 1 and W - 1 after whitening, halved by each group."""
        conv, norm = self.layers(train)
        gelu = partial(nn.gelu, approximate=False)
        x = gelu(Whitening(self.dtype, name="stem_conv")(images))
        self.sow("intermediates", "stem", x)
        for stage, width in enumerate(self.widths, start=1):
            x = max_pool(conv(width, 3, name=f"stage{stage}_conv1")(x), 2, 2)
            x = gelu(norm(name=f"stage{stage}_norm1")(x))
            x = conv(width, 3, name=f"stage{stage}_conv2")(x)
            x = gelu(norm(name=f"stage{stage}_norm2")(x))
            self.sow("intermediates", f"stage{stage}", x)
        return x

    def classify(self, x: jax.Array, *, train: bool) -> jax.Array:
        """(N, H', W', F) -> (N, num_classes) float32, or (N, F) if num_classes is 0."""
        x = global_max_pool(x).astype(jnp.float32)
        if self.num_classes == 0:
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        head = nn.Dense(self.num_classes, use_bias=False, kernel_init=unit_deviation, name="head")
        return head(x) / x.shape[-1]


variant("airbench94", Airbench, widths=(64, 256, 256), image_size=32, paper="arXiv:2404.00498")  # 1,971,640 parameters

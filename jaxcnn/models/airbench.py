"""The network of airbench94, which reaches 94 % on CIFAR-10 in seconds.

Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024, arXiv:2404.00498; section 3.
github.com/KellerJordan/airbench, airbench94_muon.py.

The first layer is no trained one: `whiten` makes its filters from the training images (model.whiten), and no gradient reaches
them (where weights decay, freeze "stem_conv/kernel" too); its bias is trained.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.layers import BatchNorm, conv, convolve, global_max_pool, max_pool, uniform
from jaxcnn.models.registry import check_images, variant

TORCH = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's default: within ±1/sqrt(fan in)


def dirac(key, shape, dtype=jnp.float32, out_sharding=None):
    """The first C filters copy the C inputs; the others start as PyTorch's."""
    kernel = TORCH(key, shape, dtype)
    size, _, inputs, outputs = shape
    copies = min(inputs, outputs)
    identity = np.zeros((size, size, inputs, copies), np.float32)
    identity[size // 2, size // 2, np.arange(copies), np.arange(copies)] = 1
    return kernel.at[..., :copies].set(jnp.asarray(identity, dtype))


def unit_deviation(key, shape, dtype=jnp.float32, out_sharding=None):
    """PyTorch's, divided by its standard deviation (as torch.std has it, of a sample)."""
    kernel = TORCH(key, shape, dtype)
    return kernel / kernel.std(ddof=1)


class Whitening(nn.Module):
    """A 2×2 convolution without padding whose kernel takes no gradient."""

    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, x):
        """(N, H, W, C) -> (N, H - 1, W - 1, 8 C)."""
        channels = x.shape[-1]
        patch = 4 * channels
        kernel = self.param("kernel", TORCH, (2, 2, channels, 2 * patch), jnp.float32)
        bias = self.param("bias", uniform(patch**-0.5), (2 * patch,), jnp.float32)
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        y = convolve(x.astype(self.dtype), kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.astype(self.dtype).reshape(1, 1, 1, -1)


def whiten(images: jax.Array, size: tuple[int, int] = (2, 2), epsilon: float = 5e-4) -> jax.Array:
    """The first layer's filters (h, w, C, 2 h w C) from images (N, H, W, C) as the network sees them; h, w = `size`.

    The eigenvectors of the covariance of all h×w patches, those of most variance first, each divided by the square root of
    its eigenvalue + epsilon; and their negatives.
    """
    (h, w), channels = size, images.shape[3]
    rows, columns = images.shape[1] - h + 1, images.shape[2] - w + 1
    shifted = [images[:, y : y + rows, x : x + columns] for y in range(h) for x in range(w)]
    patches = jnp.concatenate(shifted, axis=3).reshape(-1, h * w * channels)
    covariance = jnp.matmul(patches.T, patches, precision="highest") / patches.shape[0]  # not centred, as the original's
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    filters = (vectors / jnp.sqrt(eigenvalues + epsilon)[None])[:, ::-1]
    return jnp.concatenate([filters, -filters], axis=1).reshape(h, w, channels, -1)


class Airbench(nn.Module):
    """Whitening, three groups of [convolution, 2×2 max pool, norm, GELU, convolution, norm, GELU], a scaled head.

    The head sees the maximum over all positions, 3×3 on CIFAR's images. `freeze_norm` uses the running statistics in
    training too, and keeps them.
    """

    widths: tuple[int, ...]  # of the groups
    num_classes: int = 10
    freeze_norm: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 9×9 -> logits (N, num_classes) float32, or (N, features) if num_classes is 0."""
        check_images(self, images, at_least=1 + 2 ** len(self.widths))
        convolution = partial(conv, kernel_init=dirac, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train or self.freeze_norm,
            momentum=0.4,
            epsilon=1e-12,
            use_scale=False,
            dtype=self.dtype,
        )
        gelu = partial(nn.gelu, approximate=False)

        x = gelu(Whitening(self.dtype, name="stem_conv")(images))
        self.sow("intermediates", "stem", x)
        for stage, width in enumerate(self.widths, start=1):
            x = max_pool(convolution(width, 3, name=f"stage{stage}_conv1")(x), 2, 2)
            x = gelu(norm(name=f"stage{stage}_norm1")(x))
            x = convolution(width, 3, name=f"stage{stage}_conv2")(x)
            x = gelu(norm(name=f"stage{stage}_norm2")(x))
            self.sow("intermediates", f"stage{stage}", x)

        x = global_max_pool(x).astype(jnp.float32)
        if self.num_classes == 0:
            return x
        head = nn.Dense(self.num_classes, use_bias=False, kernel_init=unit_deviation, name="head")
        return head(x) / x.shape[-1]


variant("airbench94", Airbench, widths=(64, 256, 256), image_size=32, paper="arXiv:2404.00498")  # 1,971,640 parameters

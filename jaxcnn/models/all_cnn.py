"""The all convolutional network.

Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity: The All Convolutional Net. ICLR 2015 workshop,
arXiv:1412.6806; tables 1 and 2, for CIFAR. Convolutions with stride 2 stand where others pool. Every convolution has a
ReLU; the last has a map for each class, whose mean over positions is the logit. The paper's are 6×6 positions of 32×32
images, so the first convolution of the third stage has no padding. Of the initial weights the paper says nothing; here by
He et al. (fan in).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcnn.layers import conv, global_average_pool, he_normal
from jaxcnn.models.registry import check_images, variant


class AllCNN(nn.Module):
    """Three stages; the first two end in a 3×3 convolution with stride 2.

    `input_dropout` is that of the image, `dropout` that after each convolution with stride 2 (section 3.1).
    """

    sizes: tuple[tuple[int, ...], tuple[int, ...]]  # of the convolutions of the first two stages before the one with stride
    num_classes: int = 10
    input_dropout: float = 0.2
    dropout: float = 0.5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        """Images (N, H, W, C), at least 9×9 -> logits (N, num_classes) float32, or (N, 192) if num_classes is 0."""
        check_images(self, images, at_least=9)
        convolution = partial(conv, use_bias=True, kernel_init=he_normal("fan_in"))
        hidden = partial(convolution, dtype=self.dtype)
        dropout = nn.Dropout(self.dropout, deterministic=not train)

        x = nn.Dropout(self.input_dropout, deterministic=not train)(images)
        for stage, (sizes, filters) in enumerate(zip(self.sizes, (96, 192), strict=True), start=1):
            for index, size in enumerate(sizes, start=1):
                name = "stem_conv" if stage == index == 1 else f"stage{stage}_conv{index}"
                x = nn.relu(hidden(filters, size, name=name)(x))
            x = nn.relu(hidden(filters, 3, 2, name=f"stage{stage}_conv{len(sizes) + 1}")(x))
            self.sow("intermediates", f"stage{stage}", x)
            x = dropout(x)
        x = nn.relu(hidden(192, 3, padding=0, name="stage3_conv1")(x))
        x = nn.relu(hidden(192, 1, name="stage3_conv2")(x))
        self.sow("intermediates", "stage3", x)

        if self.num_classes == 0:
            return global_average_pool(x)
        x = nn.relu(convolution(self.num_classes, 1, name="head")(x.astype(jnp.float32)))
        return global_average_pool(x)


all_cnn = partial(variant, image_size=32, paper="arXiv:1412.6806")
all_cnn("all_cnn_a", AllCNN, sizes=((5,), (5,)))  # 1.25 M parameters
all_cnn("all_cnn_b", AllCNN, sizes=((5, 1), (5, 1)))  # 1.30 M
all_cnn("all_cnn_c", AllCNN, sizes=((3, 3), (3, 3)))  # 1.37 M

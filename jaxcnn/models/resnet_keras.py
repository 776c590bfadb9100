"""Keras's residual networks, first version.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, arXiv:1512.03385. As published, a bottleneck
strides in its first 1×1; Keras's convolutions have biases and start uniform, by Glorot.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from jaxcnn.layers import BatchNorm, conv
from jaxcnn.models.registry import variant
from jaxcnn.models.resnet import Bottleneck, ResNet

GLOROT = nn.initializers.glorot_uniform()  # Keras's for every kernel
keras_norm = partial(BatchNorm, epsilon=1.001e-5, momentum=0.01, unbiased=False)  # as its ResNets of both versions have it


class KerasResNet(ResNet):
    """A ResNet of Keras's layers."""

    def layers(self, train: bool) -> tuple[Callable, Callable]:
        """Convolution and norm of all blocks."""
        norm = partial(keras_norm, use_running_average=not train or self.freeze_norm, dtype=self.dtype)
        return partial(conv, use_bias=True, kernel_init=GLOROT, dtype=self.dtype), norm

    def classifier(self, x: jax.Array) -> jax.Array:
        """(N, features) -> (N, num_classes)."""
        return nn.Dense(self.num_classes, kernel_init=GLOROT, name="head")(x)


bottleneck = partial(Bottleneck, stride_first=True)
resnet = partial(variant, image_size=224, paper="arXiv:1512.03385")
resnet("keras/ResNet50", KerasResNet, depths=(3, 4, 6, 3), block=bottleneck)  # 25.6 M parameters
resnet("keras/ResNet101", KerasResNet, depths=(3, 4, 23, 3), block=bottleneck)  # 44.6 M
resnet("keras/ResNet152", KerasResNet, depths=(3, 8, 36, 3), block=bottleneck)  # 60.3 M

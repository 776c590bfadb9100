"""MobileNet V1.

Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications. 2017, arXiv:1704.04861;
table 1. Activations are ReLU6 instead of ReLU, as in all published weights. The variants without prefix have the paper's
widths and the padding of the authors' weights (TensorFlow's SAME). Keras pads depthwise convolutions with stride 2 at the
bottom and right only, which differs if a size is odd. Both are initialized as in Keras (Glorot uniform) and expect images
between -1 and 1.
"""

from functools import partial

import flax.linen as nn

from jaxcnn.models.mobile_blocks import Design, Row, wider
from jaxcnn.models.mobile_network import KERAS, TIMM, WithoutShortcuts
from jaxcnn.models.registry import variant

_row = partial(Row, "separable_activated", 3)
STAGES = (_row(1, 1, 64), _row(2, 1, 128, 2), _row(2, 1, 256, 2), _row(2, 1, 512, 6), _row(2, 1, 1024, 2))
DESIGN = Design(STAGES, 32, 0, nn.relu6)


class MobileNetV1(WithoutShortcuts, kw_only=True):
    """All widths are multiplied by `alpha`."""

    alpha: float = 1.0
    drop_rate: float = 1e-3

    @property
    def smallest(self) -> int:
        """The minimum height and width of images: Keras's padding of a single pixel leaves no 3×3 window."""
        return 31 if self.design.strided_padding else 1

    def plan(self) -> Design:
        """Returns the design with scaled channels."""

        def width(channels):
            return max(1, int(channels * self.alpha))

        return self.design.scaled(width)._replace(stem=width(self.design.stem))


mobilenet_v1 = partial(variant, image_size=224, paper="arXiv:1704.04861")
papers = partial(mobilenet_v1, module=MobileNetV1, flavor=KERAS, design=DESIGN._replace(conv_head=True))
papers("mobilenet_v1_100", alpha=1.0)  # 4.2 M parameters
papers("mobilenet_v1_075", alpha=0.75)  # 2.6 M
papers("mobilenet_v1_050", alpha=0.5)  # 1.3 M
papers("mobilenet_v1_025", alpha=0.25)  # 0.5 M
papers("keras/MobileNet", design=DESIGN._replace(conv_head=True, strided_padding=((0, 1), (0, 1))))  # 4.2 M

timm = partial(mobilenet_v1, module=WithoutShortcuts, flavor=TIMM)
timm("timm/mobilenetv1_100", design=DESIGN)
timm("timm/mobilenetv1_125", design=DESIGN.scaled(wider(1.25))._replace(stem=40))

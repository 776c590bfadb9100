"""MobileNet V3.

Howard et al.: Searching for MobileNetV3. ICCV 2019, arXiv:1905.02244; tables 1 and 2. Initialized as in torchvision (He,
fan out; head normal) or Keras (Glorot uniform).
"""

from functools import partial

import flax.linen as nn
import jax

from jaxcnn.models.mobile_blocks import Design, Row, wider
from jaxcnn.models.mobile_network import KERAS, TORCHVISION_TF, MobileNetwork
from jaxcnn.models.registry import variant

LARGE = (
    Row("separable", 3, 1, 1, 16, activation=nn.relu),
    (Row("inverted", 3, 2, 4, 24, activation=nn.relu), Row("inverted", 3, 1, 3, 24, activation=nn.relu)),
    Row("inverted", 5, 2, 3, 40, 3, 0.25, nn.relu),
    (Row("inverted", 3, 2, 6, 80), Row("inverted", 3, 1, 2.5, 80), Row("inverted", 3, 1, 2.3, 80, 2)),
    Row("inverted", 3, 1, 6, 112, 2, 0.25),
    Row("inverted", 5, 2, 6, 160, 3, 0.25),
)
SMALL = (
    Row("separable", 3, 2, 1, 16, 1, 0.25, nn.relu),
    (Row("inverted", 3, 2, 72 / 16, 24, activation=nn.relu), Row("inverted", 3, 1, 88 / 24, 24, activation=nn.relu)),
    (Row("inverted", 5, 2, 4, 40, 1, 0.25), Row("inverted", 5, 1, 6, 40, 2, 0.25)),
    Row("inverted", 5, 1, 3, 48, 2, 0.25),
    Row("inverted", 5, 2, 6, 96, 3, 0.25),
)


_design = partial(Design, stem=16, activation=nn.hard_swish, hard_squeeze=True, dilate_strided=True)
DESIGN_LARGE = _design(LARGE, last=960, hidden=1280)
DESIGN_SMALL = _design(SMALL, last=576, hidden=1024)


class KerasMobileNetV3(MobileNetwork, kw_only=True):
    """Keras's MobileNet V3, for pixels from 0 to 255 unless `include_preprocessing` is off.

    Widths are multiplied by `alpha`, but stem and hidden layer are never reduced. `minimalistic` replaces hard swish by ReLU
    and 5×5 by 3×3 convolutions, and removes squeeze-and-excitation.
    """

    alpha: float = 1.0
    minimalistic: bool = False
    include_preprocessing: bool = True
    drop_rate: float = 0.2

    def plan(self) -> Design:
        """Returns the design with scaled channels."""
        design, width = self.design, wider(self.alpha)
        if self.minimalistic:  # rows with an activation have ReLU already
            design = design.changed(lambda row: row._replace(kernel=3, squeeze_excite=0))._replace(activation=nn.relu)
        hidden = wider(max(1.0, self.alpha))(design.hidden)
        return design.scaled(width)._replace(last=6 * width(design.last // 6), hidden=hidden)

    def backbone(self, images: jax.Array, *, train: bool) -> jax.Array:
        """(N, H, W, C) -> (N, H/32, W/32, F)."""
        return super().backbone(images / 127.5 - 1 if self.include_preprocessing else images, train=train)


mobilenet_v3 = partial(variant, image_size=224, paper="arXiv:1905.02244")
torchvision = partial(mobilenet_v3, module=MobileNetwork, flavor=TORCHVISION_TF, drop_rate=0.2)
torchvision("torchvision/mobilenet_v3_large", design=DESIGN_LARGE)  # 5.5 M parameters
torchvision("torchvision/mobilenet_v3_small", design=DESIGN_SMALL)  # 2.5 M

keras = partial(mobilenet_v3, module=KerasMobileNetV3, flavor=KERAS._replace(momentum=0.001))
keras("keras/MobileNetV3Large", design=DESIGN_LARGE._replace(conv_hidden=True, conv_head=True))  # 5.5 M
keras("keras/MobileNetV3Small", design=DESIGN_SMALL._replace(conv_hidden=True, conv_head=True))  # 2.6 M

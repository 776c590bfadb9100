"""ResNets on CIFAR-10: He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, section 4.2.

Published test error, training on all 50,000 (table 6):

    depth    20     32     44     56     110                          1202
    error    8.75   7.51   7.17   6.97   6.43 (6.61 ± 0.16, 5 runs)   7.93 %

    python experiments/train.py --config=configs/resnet_cifar10.py:20 --workdir=runs/resnet20 --config.data.root=DIR

DIR holds cifar-10-batches-bin. The recipe is 64,000 steps, 8.2 million images: on 2 CPU cores (about 350 images/s for
ResNet-20) more than six hours. It has not been run in full here yet; what was run is in docs/results.md.

The paper subtracts the mean of each pixel; here, as in every reimplementation, that of each channel is, and images are
divided by the standard deviation. Its warm-up for depth 110 (rate 0.01 until the error is below 80 %, about 400 steps)
is a linear rise over 400 steps here.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError

_DEPTHS = ("20", "32", "44", "56", "110", "1202")


def get_config(depth: str = "20") -> ConfigDict:
    """The paper's recipe. Like its final numbers, it trains on all 50,000 and tests the last parameters."""
    if depth not in _DEPTHS:
        raise UserError(f"resnet_cifar10.py:{depth}: no such depth; there are {', '.join(_DEPTHS)}")
    config = default_config()
    config.model.name = f"resnet{depth}"
    config.data.name = "cifar10"
    config.data.validation = 0.0
    config.data.augment = (("random_crop", {"pad": 4}), "horizontal_flip")
    config.total = "64000steps"
    config.batch_size = 128
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.optimizer.weight_decay_factors = ()  # the paper's decay is on all parameters, biases and norms too
    config.schedule.name = "steps"
    config.schedule.boundaries = ("32000steps", "48000steps")
    if depth in ("110", "1202"):
        config.schedule.warmup = "400steps"
        config.schedule.warmup_start = 0.1
    config.checkpoint.every = "5epochs"
    config.log.every = "100steps"
    return config

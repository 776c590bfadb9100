"""ResNets on CIFAR-10: He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition. CVPR 2016, section 4.2.

Published test error when trained on all 50,000 images (table 6):

    depth    20     32     44     56     110                          1202
    error    8.75   7.51   7.17   6.97   6.43 (6.61 ± 0.16, 5 runs)   7.93 %

    python experiments/train.py --config=configs/resnet_cifar10.py:20 --workdir=runs/resnet20 --config.data.root=DIR

DIR contains cifar-10-batches-bin. The recipe has 64,000 steps with 8.2 million images in total, which takes more than six
hours on 2 CPU cores (about 350 images/s for ResNet-20). It has not been run completely yet. The measured results of shorter
runs are in docs/results.md.

The paper subtracts the per-pixel mean. Here, as in every reimplementation, the per-channel mean is subtracted, and images are
divided by the standard deviation. The paper's warm-up for depth 110 (learning rate 0.01 until the error is below 80 %, about
400 steps) is replaced by a linear warm-up over 400 steps.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError

_DEPTHS = ("20", "32", "44", "56", "110", "1202")


def get_config(depth: str = "20") -> ConfigDict:
    """Returns the paper's recipe. As for its final results, all 50,000 images are trained on and the last parameters tested."""
    if depth not in _DEPTHS:
        raise UserError(f"resnet_cifar10.py:{depth}: expected one of {', '.join(_DEPTHS)} after the colon")
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
    config.optimizer.weight_decay_factors = ()  # the paper decays all parameters, including biases and those of batch norm
    config.schedule.name = "steps"
    config.schedule.boundaries = ("32000steps", "48000steps")
    if depth in ("110", "1202"):
        config.schedule.warmup = "400steps"
        config.schedule.warmup_start = 0.1
    config.checkpoint.every = "5epochs"
    config.log.every = "100steps"
    return config

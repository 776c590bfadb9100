"""LeNet-5 on scikit-learn's digits: the first thing to run, with no download.

Network: LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition. Proc. IEEE, 1998
(ReLU and max-pooling form). Data: UCI's optical digits, test part, 1,797 scans of 8×8, of which 360 are set aside.
Published: none on this split. Takes about 15 seconds on 2 CPU cores; docs/results.md has what was measured.

    python experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config


def get_config() -> ConfigDict:
    """Scans of 8×8 are enlarged to the 32×32 that LeNet-5 takes; augmentation shifts them by up to half a pixel."""
    config = default_config()
    config.model.name = "lenet5_relu"
    config.data.name = "digits"
    config.data.image_size = 32
    config.data.augment = (("random_crop", {"pad": 3}),)
    config.total = "30epochs"
    config.batch_size = 64
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 1e-2
    config.schedule.warmup = "2epochs"
    config.ema.decay = 0.99
    config.evaluate.every = "3epochs"
    config.evaluate.select = "last"  # 144 validation examples are too few to choose among such near results
    config.checkpoint.every = "10epochs"
    config.log.every = "3epochs"
    return config

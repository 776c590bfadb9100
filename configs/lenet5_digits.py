"""LeNet-5 on scikit-learn's digits: a first example, which needs no download.

Network: LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition. Proc. IEEE, 1998
(here with ReLU and max pooling). Data: the test set of UCI's optical digits, 1,797 scans of 8×8 pixels, of which 360 are
used for testing. There are no published results for this split. Training takes about 15 seconds on 2 CPU cores. The measured
results are in docs/results.md.

    python experiments/train.py --config=configs/lenet5_digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config


def get_config() -> ConfigDict:
    """Returns the config. Scans are enlarged to the 32×32 input of LeNet-5; augmentation shifts them by up to 3 pixels."""
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
    config.evaluate.select = "last"  # 144 validation examples are too few to distinguish such similar results
    config.checkpoint.every = "10epochs"
    config.log.every = "3epochs"
    return config

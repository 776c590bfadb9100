"""A small ResNet on your own arrays: an .npz file with train_images, train_labels, test_images, test_labels, as in MedMNIST.

    python experiments/train.py --config=configs/arrays.py --workdir=runs/mine --config.data.root=FILE.npz

Classes, image size, channels, mean and standard deviation are determined from the data and printed.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config


def get_config() -> ConfigDict:
    """Returns the config of ResNet-20 with small random shifts, for images of about 28×28."""
    config = default_config()
    config.model.name = "resnet20"
    config.data.name = "arrays"
    config.data.augment = (("random_crop", {"pad": 2}),)
    config.total = "20epochs"
    config.batch_size = 128
    config.optimizer.learning_rate = 0.05
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.warmup = "1epochs"
    config.ema.decay = 0.99
    return config

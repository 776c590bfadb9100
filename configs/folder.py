"""A small ResNet on your own folder of images, with one folder per class, optionally within train, val and test folders.

    python experiments/train.py --config=configs/folder.py --workdir=runs/mine --config.data.root=PATH

Classes, image size, channels, mean and standard deviation are determined from the data and printed. A missing test or
validation split is split off from the training images. For splits with other names, set --config.data.train_split=FOLDER and
--config.data.test_split=FOLDER (docs/data.md, "Folders"). --config.data.image_size=192,256 sets the height and width of the
network's input, which is square by default. On a CPU, --config.data.image_size=96 or less and --config.model.name=resnet20
reduce the training time from hours to minutes.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config


def get_config() -> ConfigDict:
    """Returns the config of ResNet-18 with random crops and flips, trained for 30 epochs."""
    config = default_config()
    config.model.name = "resnet18"
    config.data.name = "folder"
    config.data.random_crop = ((0.25, 1.0), (0.75, 1.33))
    config.data.augment = ("horizontal_flip",)
    config.data.on_error = "skip"
    config.total = "30epochs"
    config.batch_size = 64
    config.optimizer.learning_rate = 0.05
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.warmup = "2epochs"
    config.loss.label_smoothing = 0.1
    config.ema.decay = 0.99
    config.checkpoint.every = "2epochs"
    return config

"""A small ResNet on anybody's folder of pictures, one folder per class (and train, val, test folders where they exist).

    python experiments/train.py --config=configs/folder.py --workdir=runs/mine --config.data.root=PATH

Classes, size, channels, mean and std are found and printed; where there is no test or validation part, one is cut off.
Parts under other names: --config.data.train_split=FOLDER --config.data.test_split=FOLDER (docs/data.md, "Folders").
--config.data.image_size=192,256 sets height and width of the network's input, which else is a square.
On a CPU, --config.data.image_size=96 or less and --config.model.name=resnet20 take minutes where this takes hours.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config


def get_config() -> ConfigDict:
    """ResNet-18 with random crops and flips, for some tens of epochs."""
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

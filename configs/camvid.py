"""Semantic segmentation of road scenes: CamVid (Brostow, Fauqueur, Cipolla 2009) with 11 classes, at 360×480.

    python experiments/train.py --config=configs/camvid.py --workdir=runs/camvid --config.data.root=DIR

DIR contains the folders train, val and test with 367, 101 and 233 frames, and a folder of maps for each, in the form of the
SegNet tutorial (train, trainannot, …; the value 11 is void). The config is a U-Net with 16 instead of 64 channels, batch norm
and zero padding, which takes about an hour on 2 CPU cores. Evaluation is at the full size. docs/results.md has its result.

For an accelerator, the recipe of FC-DenseNets (Jégou et al. 2017, arXiv:1611.09326, section 4.1): training on crops of 224×224,
then on full frames. It has not been run.

    python experiments/train.py --config=configs/camvid.py:fc_densenet103 --workdir=runs/crops --config.data.root=DIR
    python experiments/train.py --config=configs/camvid.py:fc_densenet103_full --workdir=runs/full --config.data.root=DIR \\
        --config.model.pretrained=runs/crops

Published mean IoU (table 3):

    network    SegNet   FCN-8s   FC-DenseNet56   FC-DenseNet67   FC-DenseNet103
    mean IoU   46.4     57.0     58.9            65.8            66.9 %

The paper normalizes with the statistics of each batch in evaluation too; here, with moving averages. Epochs of the first stage
are limited to 750.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError

_FC_DENSENETS = ("fc_densenet56", "fc_densenet67", "fc_densenet103")


def get_config(variant: str = "unet") -> ConfigDict:
    """Returns the config of a U-Net for CPUs, or of one of the two stages of an FC-DenseNet."""
    model = variant.removesuffix("_full")
    if variant != "unet" and model not in _FC_DENSENETS:
        raise UserError(
            f"camvid.py:{variant}: expected unet, {', '.join(_FC_DENSENETS)}, or one of these with _full, after the colon"
        )
    config = default_config()
    config.task.name = "segmentation"
    config.data.name = "maps"
    config.data.classes = "camvid"
    config.data.fit = "stretch"
    config.data.image_size = (360, 480)
    config.model.name = model
    if model == "unet":
        config.task.arguments = {"losses": (("cross_entropy", 1.0), ("dice", 1.0))}
        config.model.arguments = {"width": 16, "norm": True, "padding": "same"}
        config.data.augment = (
            "horizontal_flip",
            ("random_resized_crop", {"size": (240, 320), "area": (0.25, 1.0), "aspect": (0.8, 1.25)}),
            ("color_jitter", {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.02}),
        )
        config.batch_size = 8
        config.total = "60epochs"
        config.optimizer.name = "adamw"
        config.optimizer.learning_rate = 0.003
        config.optimizer.weight_decay = 1e-4
        config.schedule.warmup = "50steps"
        config.ema.decay = 0.99
        config.evaluate.every = "10epochs"
        config.checkpoint.every = "2epochs"
        return config
    is_full = variant != model
    config.data.augment = ("horizontal_flip",) if is_full else (("random_crop", {"pad": 0, "size": 224}), "horizontal_flip")
    config.batch_size = 1 if is_full else 3
    config.total = "750epochs"
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 1e-4 if is_full else 1e-3
    config.optimizer.momentum = 0.0
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "constant" if is_full else "exponential"
    if not is_full:
        config.schedule.final = 0.995**750
    config.evaluate.every = "1epochs"
    config.checkpoint.every = "1epochs"
    config.early_stop.patience = 50 if is_full else 100
    return config

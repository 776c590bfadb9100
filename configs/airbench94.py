"""airbench94: CIFAR-10 to 94 % in 8 epochs. Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024, arXiv:2404.00498.

Published, with Muon: 94.01 %, mean of 200 runs, in 2.59 s on a 400 W A100 (github.com/KellerJordan/cifar10-airbench,
airbench94_muon.py).

    python experiments/airbench.py --runs=5 --config.data.root=DIR
    python experiments/airbench.py --runs=200 --warm_up --config=configs/airbench94.py:bfloat16 --config.data.root=DIR

DIR contains cifar-10-batches-bin. airbench.py trains with several seeds and describes what it times. A run processes 400,000
images of about 0.7 GFLOP each, forward and backward. The measured results are in docs/results.md.

The original stores its parameters and computes, except in batch norm, in float16; here the parameters are float32.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError


def get_config(dtype: str = "float32") -> ConfigDict:
    """Returns the config. `dtype`, of the network and of Muon's iterations, is "float32", or "bfloat16" for GPUs."""
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f'airbench94.py:{dtype}: expected "float32" or "bfloat16" after the colon')
    config = default_config()
    config.model.name = "airbench94"
    config.model.dtype = dtype
    config.model.whiten = 5000
    config.data.name = "cifar10"
    config.data.validation = 0.0
    config.data.resident = "on"
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.data.augment = ("alternating_flip", ("random_crop", {"pad": 2, "mode": "reflect"}))
    config.total = "8epochs"
    config.batch_size = 2000
    config.loss.label_smoothing = 0.2

    # the 3×3 convolution kernels
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.24
    config.optimizer.momentum = 0.6
    config.optimizer.nesterov = True
    config.optimizer.muon_steps = 3
    config.optimizer.muon_dtype = dtype
    config.optimizer.rescale_filters = True
    config.optimizer.freeze = ("^stem_conv/kernel$",)
    config.schedule.name = "linear"

    # the other parameters. The original sums the loss over the batch; here it is the mean, so rates are × batch_size
    def sgd(rate: float) -> dict[str, object]:
        return {
            "optimizer.name": "sgd",
            "optimizer.learning_rate": rate * config.batch_size,
            "optimizer.momentum": 0.85,
            "optimizer.weight_decay": 2e-6 / rate,
            "optimizer.weight_decay_factors": (),
        }

    config.optimizer.groups = (
        ("^stem_conv/bias$", {**sgd(0.053), "schedule.total": "3epochs"}),
        ("norm./bias$", sgd(0.053)),
        ("^head/kernel$", sgd(0.67)),
    )
    config.evaluate.views = (("shift", {"pixels": 1}), "horizontal_flip")
    config.evaluate.batch_size = 2000
    config.checkpoint.every = "8epochs"
    config.log.every = "1epochs"
    return config

"""airbench94: CIFAR-10 to 94 % in 8 epochs. Jordan: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU. 2024, arXiv:2404.00498.

Published, with Muon: 94.01 %, mean of 200 runs, in 2.59 s on a 400 W A100 (github.com/KellerJordan/cifar10-airbench,
airbench94_muon.py).

    python experiments/airbench.py --runs=5 --config.data.root=DIR
    python experiments/airbench.py --runs=200 --warm_up --config=configs/airbench94.py:bfloat16 --config.data.root=DIR

DIR holds cifar-10-batches-bin. airbench.py is train.py over several seeds, and says what it has on the clock. 400,000 images of
about 0.7 GFLOP, forward and backward; what was measured is in docs/results.md.

The original computes in float16, all but batch norm, and keeps its parameters in it; here they are float32.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError


def get_config(dtype: str = "float32") -> ConfigDict:
    """`dtype` is what the network and Muon's iterations compute in: "float32", or "bfloat16" for GPUs."""
    if dtype not in ("float32", "bfloat16"):
        raise UserError(f'airbench94.py:{dtype}: no such type; there are "float32" and "bfloat16"')
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

    # the 3×3 filters
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.24
    config.optimizer.momentum = 0.6
    config.optimizer.nesterov = True
    config.optimizer.muon_steps = 3
    config.optimizer.muon_dtype = dtype
    config.optimizer.rescale_filters = True
    config.optimizer.freeze = ("^stem_conv/kernel$",)
    config.schedule.name = "linear"

    # the rest. The original sums the loss over the batch; here it is the mean, so that SGD's rates are as much higher
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

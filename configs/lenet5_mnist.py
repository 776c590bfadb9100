"""LeNet-5 on MNIST, as in its paper.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition. Proc. IEEE, 1998.
Published: test error 0.95 % without distortions, 0.8 % with them (LeCun's MNIST page). The paper's network ends with radial
basis functions and was trained by a stochastic Levenberg-Marquardt method; here it ends with a linear layer and SGD is used.

    python experiments/train.py --config=configs/lenet5_mnist.py --workdir=runs/mnist --config.data.root=DIR
    python experiments/train.py --config=configs/lenet5_mnist.py:relu …      # the common variant with ReLU and max pooling

DIR contains the four idx .gz files. Training takes about 2 minutes on 2 CPU cores. The measured results are in
docs/results.md. Digits are shifted by up to 2 pixels, the mildest of the paper's distortions. Without shifts, the accuracy of
the 1998 form stays near 98.9 %.
"""

from ml_collections import ConfigDict

from jaxcnn.config import default_config
from jaxcnn.errors import UserError


def get_config(form: str = "1998") -> ConfigDict:
    """Returns the config of the variant `form`, "1998" or "relu". Digits of 28×28 are centered in the network's 32×32 input."""
    if form not in ("1998", "relu"):
        raise UserError(f'lenet5_mnist.py:{form}: expected "1998" or "relu" after the colon')
    config = default_config()
    config.model.name = "lenet5" if form == "1998" else "lenet5_relu"
    config.data.name = "mnist"
    config.data.image_size = 32
    config.data.resize = "pad"
    config.data.augment = (("random_crop", {"pad": 2}),)
    config.total = "20epochs"
    config.batch_size = 128
    config.optimizer.learning_rate = 0.2 if form == "1998" else 0.05
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.schedule.warmup = "1epochs"
    config.log.every = "200steps"
    return config

"""airbench94 in little: one group of few filters, and some small images."""

import numpy as np

from jaxcnn.models.airbench import Airbench


class Narrow(Airbench):
    """2,400 parameters and some, for images of 5×5 and more."""

    widths: tuple[int, ...] = (8,)


def settings(folder):
    """What configs/airbench94.py needs to train it in 8 steps, with its data in `folder`."""
    images = np.random.default_rng(1).integers(0, 256, (80, 9, 9, 3), np.uint8)
    labels = {"train_labels": np.arange(80) % 4, "test_labels": np.arange(20) % 4}
    np.savez(folder / "few.npz", train_images=images, test_images=images[:20], **labels)
    return {
        "data.name": "arrays",
        "data.root": str(folder / "few.npz"),
        "batch_size": 20,
        "total": "2epochs",
        "model.name": "common.narrow_airbench:Narrow",
        "model.whiten": 50,
        "devices": 1,
        "evaluate.batch_size": 20,
        "checkpoint.every": "2epochs",
    }
